//! A base and its LoRA head to head: two runs by one copy, judged alone and in pairs.

use crate::building::repository;
use crate::pairs;
use crate::support::{host_program, plugin_file};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

struct Bench(TempDir);

impl Bench {
    /// All plugins of this repository, and a referee that judges by a known rule.
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        pairs::registry(folder.path());
        let registry = folder.path().join("pairs.toml");
        let mut text = fs::read_to_string(&registry).unwrap();
        let echo = plugin_file("fixture-echo");
        text += &format!(
            "\n[plugins.fixture-of-judging]\npath = {echo:?}\nisolation = \"in-process\"\n\
             [models.referee]\nplugin = \"fixture-of-judging\"\n"
        );
        fs::write(registry, text).unwrap();
        Bench(folder)
    }

    #[track_caller]
    fn check(&self, arguments: &str, exit: i32, words: &[&str]) -> String {
        let output = Command::new(host_program())
            .args(arguments.split_whitespace())
            .args(["--registry", "pairs.toml", "--offline"])
            .current_dir(self.0.path())
            .output()
            .expect("the program starts");
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(output.status.code(), Some(exit), "`host {arguments}`\n{out}\n{err}");
        let both = format!("{out}\n{err}");
        let missing = words.iter().find(|words| !both.contains(**words));
        assert_eq!(missing, None, "in what `host {arguments}` said:\n{both}");
        out
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.0.path().join(file)).expect(file);
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// The columns of `comparison_results.jsonl`, in their order.
const COLUMNS: &str = "id sample_id turn level gold_raw base_raw lora_raw base_accuracy lora_accuracy base_latency_ms \
    lora_latency_ms base_overlap lora_overlap base_check lora_check winner winner_forward winner_backward winner_reason \
    flip unscored judge judge_version judge_calls judge_dollars base_key lora_key";

/// The keys of `comparison_summary.json`, in their order.
const SUMMARY: &str = "n scored base_accuracy lora_accuracy difference difference_ci95 b c p_mcnemar p_clustered \
    base_wins lora_wins ties inconsistent unscored win_rate_half win_rate_decided p_sign order_consistency \
    first_slot_share longer_wins_share dollars calls calls_maybe judge versions";

#[test]
fn a_base_and_its_lora_are_judged_head_to_head() {
    let bench = Bench::new();
    let base = repository().join("plugins/models/qwen3/golden/tied");
    let data = repository().join("plugins/tasks/arc/demo");
    let run = format!(
        "run --model qwen3 --task arc -M weights={} -M lora=tuned={} -T data={} --limit 6 --lora none,tuned --out runs",
        base.display(),
        base.join("lora").display(),
        data.display()
    );
    bench.check(&run, 0, &[]);
    let mut runs: Vec<PathBuf> = fs::read_dir(bench.0.path().join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(runs.len(), 2, "{runs:?}");
    let of_base = |path: &PathBuf| {
        !fs::read_to_string(path.join("run.toml"))
            .unwrap()
            .contains("lora = \"none\"")
    };
    runs.sort_by_key(of_base);
    let compare = format!(
        "compare {} {} --judge referee --out all/comparison_results1.jsonl",
        runs[0].display(),
        runs[1].display()
    );
    let table = bench.check(&compare, 0, &["Head to head, by winner[referee]"]);
    assert!(table.contains("rubric[referee]"), "{table}");

    let rows = bench.lines("all/comparison_results1.jsonl");
    assert_eq!(rows.len(), 6);
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(columns, COLUMNS.split_whitespace().collect::<Vec<_>>());
    let text = fs::read_to_string(bench.0.path().join("all/comparison_summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    assert_eq!(keys, SUMMARY.split_whitespace().collect::<Vec<_>>());
    let counts =
        ["base_wins", "lora_wins", "ties", "inconsistent", "unscored"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 6, "{summary}");
    assert_eq!((&summary["n"], &summary["judge"]), (&6.into(), &"referee".into()));
    // The referee's rule: the one that holds the reference answer wins, else the longer one.
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap().trim().to_owned();
        let (gold, base, lora) = (text("gold_raw"), text("base_raw"), text("lora_raw"));
        let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        let (base, lora) = (first_line(&base), first_line(&lora));
        let winner = match (base.contains(&gold), lora.contains(&gold)) {
            (true, false) => "base",
            (false, true) => "lora",
            _ if base.len() > lora.len() => "base",
            _ if lora.len() > base.len() => "lora",
            _ => "tie",
        };
        assert_eq!(row["winner"], winner, "{row}");
    }

    // A second time nothing is asked: the file of pairs stays as it is.
    let pairs = || fs::read_to_string(runs[1].join("pairs.jsonl")).unwrap();
    let before = pairs();
    bench.check(&compare, 0, &[]);
    assert_eq!(pairs(), before);

    let run = runs[1].display();
    bench.check(&format!("export {run} --format gaia-results --out results"), 0, &[]);
    let results = bench.lines("results/results.jsonl");
    let keys: Vec<&String> = results[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["id", "accuracy", "latency", "latency_ms", "gold_raw", "pred_raw"]
    );
    assert_eq!(results.len(), 6);

    bench.check(
        &format!(
            "run --model qwen3 --task arc -M weights={} --judge winner -T data={}",
            base.display(),
            data.display()
        ),
        2,
        &["compares two answers"],
    );
}
