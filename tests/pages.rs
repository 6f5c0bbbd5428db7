//! The pages of runs: their contents, and their behaviour in a real browser.

use crate::browser;
use crate::support::Bench;
use serde_json::json;
use std::path::Path;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a page")
}

/// A folder whose model puts this text before every answer.
fn voice(bench: &Bench, words: &str) {
    std::fs::create_dir_all(bench.path("voice")).unwrap();
    std::fs::write(bench.path("voice/voice.txt"), words).unwrap();
}

#[test]
fn the_page_of_a_run_has_its_number_its_makers_and_its_groups() {
    let bench = Bench::new();
    bench.check("run --model echo --task count -T n=20", 0, &[]);
    let page = text(&bench.directory("echo-count").join("report.html"));
    for words in [
        "<b>1.0000</b>",
        "95% interval 0.8389 to 1.0000",
        "acc by parity",
        "host run --config",
        "default-src 'none'",
        "id=\"d0\"",
        "id=\"i0\"",
        "id=\"about\"",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for never in [
        "http://",
        "https://",
        "unsafe-inline",
        "unsafe-eval",
        "<link rel=\"stylesheet",
    ] {
        assert!(!page.contains(never), "{never}");
    }
}

#[test]
fn a_run_that_never_came_to_its_end_has_a_page_and_is_left_as_it_is() {
    let bench = Bench::new();
    bench.check("run --model echo --task count -T n=20", 0, &[]);
    let run = bench.directory("echo-count");
    std::fs::remove_file(run.join("results.json")).unwrap();
    let mut records = std::fs::read(run.join("samples.jsonl")).unwrap();
    records.truncate(records.len() - 10);
    std::fs::write(run.join("samples.jsonl"), &records).unwrap();
    let arguments = format!("report {}", run.display());
    bench.check(&arguments, 0, &["report.html"]);
    let page = text(&run.join("report.html"));
    assert!(page.contains("not finished: 19 samples are recorded so far"), "{page}");
    assert!(page.contains("<b>1.0000</b>"), "{page}");
    assert_eq!(
        std::fs::read(run.join("samples.jsonl")).unwrap(),
        records,
        "a torn line is left alone"
    );
    assert!(!run.join("results.json").exists());
    bench.check(
        &format!("report --watch {} --every 1", run.display()),
        0,
        &["19 samples, acc 1.0000"],
    );
    assert!(!text(&run.join("report.html")).contains("http-equiv=\"refresh\""));
}

#[test]
fn many_runs_are_one_report_in_every_format() {
    let bench = Bench::new();
    voice(&bench, "so ");
    bench.check("run --model echo --task count -T n=20", 0, &[]);
    bench.check("run --model echo --task count -T n=20 -M weights=voice", 0, &[]);
    let markdown = bench.check(
        "report runs --format markdown",
        0,
        &["## Differences on count", "pairs"],
    );
    assert!(markdown.contains("1.0000 [0.8389, 1.0000]"), "{markdown}");
    let csv = bench.check("report runs --format csv", 0, &[]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("section,run,second,task,metric"), "{csv}");
    assert!(lines.iter().any(|line| line.starts_with("difference,")), "{csv}");
    assert!(lines.iter().all(|line| line.matches(',').count() == 16), "{csv}");
    bench.check(
        "report runs --format latex",
        0,
        &["\\begin{tabular}{lr}", "\\bottomrule"],
    );
    bench.check("report runs --out pages.html --svg pictures", 0, &["pages.html"]);
    let page = text(&bench.path("pages.html"));
    for words in [
        "Models and tasks",
        "Paired differences",
        "href=\"runs/echo-count-",
        "flips of acc",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(text(&bench.path("pictures/differences-count.svg")).starts_with("<svg"));
    bench.check("report nowhere", 3, &["cannot read `nowhere`"]);
}

/// Opens a page, walks through its samples with keys and filters, and checks that nothing foreign ran or was loaded.
#[test]
fn a_browser_shows_filters_and_finds_samples_and_runs_nothing_of_theirs() {
    let Some(mut browser) = browser::open() else { return };
    let bench = Bench::new();
    let hostile =
        "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\u{202e}evil\u{2066} ";
    voice(&bench, &(hostile.to_owned() + &"a".repeat(1 << 20)));
    bench.check("run --model echo --task count -T n=30 -M weights=voice", 0, &[]);
    bench.check("run --model echo --task count -T n=30 -T broken=7", 1, &[]);
    let runs = bench.directories("runs");
    let page = |with: &str| {
        let has = |run: &&String| text(&bench.path("runs").join(run).join("report.html")).contains(with);
        bench
            .path("runs")
            .join(runs.iter().find(has).expect("a run"))
            .join("report.html")
    };
    let ready = "document.getElementById('browser')?.dataset.ready === 'yes' && document.querySelector('#one h3')";

    browser.show(&page("is broken, as the settings want it"), ready);
    let count = "document.getElementById('count').textContent";
    assert_eq!(browser.ask(count), "30 of 30 samples");
    browser.press("e");
    assert_eq!(browser.ask(count), "1 of 30 samples");
    browser.press("j");
    browser.wait("document.getElementById('one').textContent.includes('sample 7 is broken')");
    browser.press("r");
    assert_eq!(browser.ask(count), "29 of 30 samples");
    browser.press("a");
    browser.ask("{ const it = document.querySelector('#groups select'); it.selectedIndex = 1; it.dispatchEvent(new Event('change')); 1 }");
    assert_eq!(browser.ask(count), "15 of 30 samples");
    browser.ask("{ const it = document.querySelector('#groups select'); it.selectedIndex = 0; it.dispatchEvent(new Event('change')); 1 }");
    browser.ask("{ const it = document.getElementById('find'); it.value = 'number-12'; it.dispatchEvent(new Event('input')); 1 }");
    browser.wait("document.getElementById('count').textContent === '1 of 30 samples'");
    browser
        .ask("{ const it = document.getElementById('find'); it.value = ''; it.dispatchEvent(new Event('input')); 1 }");
    browser.wait("document.getElementById('count').textContent === '30 of 30 samples'");
    browser.ask("{ const it = document.getElementById('sort'); it.value = 'length'; it.dispatchEvent(new Event('change')); document.getElementById('down').click(); 1 }");
    assert_eq!(
        browser.ask("document.querySelector('#rows .row span:nth-child(2)').textContent"),
        "number-10"
    );
    let dark = "(document.getElementById('theme').click(), getComputedStyle(document.body).backgroundColor)";
    assert_ne!(browser.ask(dark), browser.ask(dark), "the button changes the theme");

    browser.show(&page("<b>0.0000</b>"), ready);
    assert_eq!(
        browser.ask("document.querySelectorAll('img, iframe, object, embed').length"),
        0
    );
    assert_ne!(browser.ask("document.title"), "owned");
    let shown = browser.ask("document.getElementById('one').textContent");
    let shown = shown.as_str().unwrap();
    assert!(
        shown.contains("<script>document.title='owned'</script>"),
        "an answer stays text"
    );
    assert!(
        shown.contains("U+202E") && !shown.contains('\u{202e}'),
        "marks that turn text around are spelt out"
    );
    browser.ask(
        "[...document.querySelectorAll('#one button')].find((it) => it.textContent.startsWith('show all')).click()",
    );
    let long = browser.ask("[...document.querySelectorAll('#one pre')].some((it) => it.textContent.length > 1e6)");
    assert_eq!(long, true, "a megabyte in one line is there when asked for");
    assert_eq!(browser.faults, Vec::<String>::new());
}

#[test]
fn a_browser_shows_a_report_over_many_runs() {
    let Some(mut browser) = browser::open() else { return };
    let bench = Bench::new();
    bench.check("run --model echo --task count,riddles", 0, &[]);
    bench.check("report runs --out pages.html", 0, &[]);
    browser.show(&bench.path("pages.html"), "document.readyState === 'complete'");
    assert_eq!(browser.ask("document.querySelectorAll('table td a').length"), 2);
    assert_eq!(browser.ask("document.querySelectorAll('svg.plot').length"), 2);
    assert_eq!(json!(browser.faults), json!([]));
}

#[test]
fn kept_clips_are_in_the_page_and_play() {
    let bench = Bench::new();
    let found = std::fs::read_dir(crate::support::clip_file("")).unwrap();
    let found = found.filter_map(|entry| Some(entry.ok()?.path()));
    let wav = found
        .filter(|path| path.extension().is_some_and(|end| end == "wav"))
        .min()
        .expect("a clip");
    std::fs::create_dir_all(bench.path("sound")).unwrap();
    std::fs::copy(&wav, bench.path("sound/a.wav")).unwrap();
    bench.check(
        "run --model absent --task clips -T folder=sound --keep-audio --skip-hearing-test",
        0,
        &[],
    );
    let run = bench.directory("absent-clips");
    let kept = std::fs::read_dir(run.join("audio")).unwrap().count();
    assert_eq!(kept, 1);
    let Some(mut browser) = browser::open() else { return };
    browser.show(
        &run.join("report.html"),
        "document.querySelector('#one audio')?.readyState > 0",
    );
    let seconds = browser.ask("document.querySelector('#one audio').duration");
    assert!(seconds.as_f64().is_some_and(|seconds| seconds > 0.0), "{seconds}");
    assert_eq!(browser.faults, Vec::<String>::new());
}

#[test]
fn a_newcomer_gets_a_registry_and_a_first_command() {
    let bench = Bench::new();
    let said = bench.check("init", 0, &["wrote", "host run --demo", "--model first"]);
    assert!(said.contains("free:"), "{said}");
    let file = bench.path("config/host/registry.toml");
    assert!(text(&file).contains("[models.first]"), "the user's own registry");
    bench.check("init", 2, &["already exists", "`--force`"]);
    bench.check("init --force", 0, &[]);
}
