//! `host train` builds the same lessons of each task as its collection's script; the real program shows them with `⟦
//! ⟧` around the trained tokens.

use crate::building::repository;
use crate::recipes::Workshop;
use serde_json::{Value, json};

/// The lessons of these files, by name.
#[track_caller]
fn lessons(workshop: &Workshop, model: &str, weights: &str, arguments: &str) -> Vec<(String, String)> {
    let weights = repository().join("plugins/models").join(weights);
    let line = format!(
        "train --model {model} -M weights={} --show 9 --json {arguments}",
        weights.display()
    );
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (exit, told, said) = workshop.host(&words);
    assert_eq!(exit, Some(0), "{line}\n{told}\n{said}");
    told.lines().map(shown).collect()
}

fn shown(line: &str) -> (String, String) {
    let lesson: Value = serde_json::from_str(line).expect("JSON");
    let (mut text, mut inside) = (String::new(), false);
    for piece in lesson["texts"].as_array().expect("texts") {
        let learnt = piece["learn"] == true;
        match (inside, learnt) {
            (false, true) => text.push('⟦'),
            (true, false) => text.push('⟧'),
            _ => {}
        }
        inside = learnt;
        text.push_str(piece["text"].as_str().expect("a text"));
    }
    if inside {
        text.push('⟧');
    }
    (lesson["id"].as_str().expect("a name").to_owned(), text)
}

const CODER: (&str, &str) = ("qwen2.5", "qwen3/demo-qwen2.5");

fn page(id: &str, result: Value, answer: &str) -> Value {
    json!({
        "id": id, "pre_text": ["acme makes anvils .", "it made 7 ."], "post_text": ["sales of 2018 were 60 ."],
        "table": [["", "2020", "2019"], ["net sales", "120", "80"], ["costs", "70", "60"], ["tax", "9", "8"]],
        "qa": {
            "question": " how much did sales grow? ", "program": "subtract(120, 80)", "exe_ans": result, "answer": answer,
            "gold_inds": { "table_1": "the net sales of 2020 is 120 ; the net sales of 2019 is 80 ;" },
        },
    })
}

#[test]
fn finqa_is_taught_in_plain_text() {
    let workshop = Workshop::new();
    let rows = [
        page("float", json!(94.0), "94"),
        page("small", json!(0.00001), "0"),
        page("whole", json!(94), "94"),
        page("zero", json!(0.0), "0%"),
        page("nothing", json!(0), " "),
        page("word", json!("yes"), "indeed"),
    ];
    let file = workshop.rows("finqa-rows.jsonl", &rows);
    let shown = |more: &str| {
        lessons(
            &workshop,
            CODER.0,
            CODER.1,
            &format!("--task finqa --train_file {file} {more}"),
        )
    };
    let program = shown("--input_mode gold --target_field program --noisy_context_seed 42");
    assert_eq!(
        program[0].1,
        "Generate the FinQA reasoning program (DSL) that answers the question.\n\nQuestion:\nhow much did sales grow?\n\n\
         Context:\nthe net sales of 2020 is 120 ; the net sales of 2019 is 80 ;\n\nAnswer:⟦subtract(120, 80)<|endoftext|>⟧"
            .replace("<|endoftext|>", &eos(&program[0].1)),
    );
    let learnt = |lessons: &[(String, String)]| -> Vec<String> {
        let end = eos(&lessons[0].1);
        let of = |text: &String| {
            let (_, learnt) = text.split_once('⟦').expect("something learnt");
            learnt.trim_end_matches('⟧').trim_end_matches(&end).to_owned()
        };
        lessons.iter().map(|(_, text)| of(text)).collect()
    };
    let numerical = shown("--input_mode gold --target_field numerical");
    assert!(
        numerical[0].1.starts_with("Return the final numeric answer.\n\n"),
        "{numerical:?}"
    );
    assert_eq!(learnt(&numerical), ["94.0", "1e-05", "94", "0%", "unknown", "yes"]);
    let answer = shown("--input_mode all --target_field answer");
    assert_eq!(learnt(&answer), ["94", "0", "94", "0%", "unknown", "indeed"]);
    assert!(
        answer[0]
            .1
            .contains("Context:\nacme makes anvils .\nit made 7 .\n\n | 2020 | 2019\n"),
        "{answer:?}"
    );
    // One sentence and no row of the table with the fact; then, with the script's defaults, three and one.
    let lines = |text: &str| {
        let (_, context) = text.split_once("Context:\n").expect("a context");
        context.split("\n\nAnswer:").next().expect("lines").lines().count()
    };
    let noisy = shown("--input_mode noisy_gold --noisy_text_distractors 1 --noisy_table_distractors 0");
    assert_eq!(lines(&noisy[0].1), 2, "{noisy:?}");
    assert_eq!(lines(&shown("--input_mode noisy_gold")[0].1), 5);
    let told = workshop.host(
        &format!(
            "train --model qwen2.5 -M weights=x --task finqa --train_file {file} --show 1 --generation_num_beams 4"
        )
        .split(' ')
        .map(str::to_owned)
        .collect::<Vec<_>>(),
    );
    assert_eq!(told.0, Some(2), "{told:?}");
}

/// The end token of a checkpoint, which ends every lesson here.
fn eos(lesson: &str) -> String {
    let start = lesson.rfind("<|").expect("an end token");
    lesson[start..].trim_end_matches('⟧').to_owned()
}

#[test]
fn traces_are_taught_behind_markers() {
    let workshop = Workshop::new();
    let say = |role: &str, content: &str| json!({ "role": role, "content": content });
    let rows = [
        json!({ "messages": [
            say("user", "how many?"), say("assistant", "I look."), say("tool", "4"), say("assistant", "Four."),
            say("user", "thanks"),
        ] }),
        json!({ "id": "named", "messages": [say("system", "be brief"), say("assistant", "Yes.")] }),
    ];
    let file = workshop.rows("trace-rows.jsonl", &rows);
    let lessons = lessons(
        &workshop,
        "qwen3",
        "qwen3/demo",
        &format!("--task gaia -T mode=traces --train_file {file}"),
    );
    let end = "<|im_end|>";
    assert_eq!(
        lessons[0].1,
        format!(
            "<|user|>\nhow many?{end}⟦<|assistant|>\nI look.{end}⟧<|assistant|>\n4{end}⟦<|assistant|>\nFour.{end}⟧<|user|>\nthanks{end}"
        )
    );
    assert_eq!(
        lessons[1].1,
        format!("<|assistant|>\nbe brief{end}⟦<|assistant|>\nYes.{end}⟧")
    );
}

#[test]
fn letters_are_taught_with_the_assistants_header() {
    let workshop = Workshop::new();
    let row = json!({
        "id": "a", "question": "Which flies?", "choices": { "text": ["a stone", "a wren"], "label": ["1", "2"] },
        "answerKey": "2",
    });
    let file = workshop.rows("letter-rows.jsonl", &[row]);
    let of = |more: &str| {
        lessons(
            &workshop,
            "qwen3",
            "qwen3/demo",
            &format!("--task arc --train_file {file} {more}"),
        )
    };
    assert_eq!(
        of("")[0].1,
        "<|im_start|>user\nMultiple Choice question: Which flies?\n- a stone=A\n- a wren=B\n\n\
         Respond only with the letter of the correct answer.<|im_end|>\n⟦<|im_start|>assistant\nB<|im_end|>⟧"
    );
    let masked = &of("-T mask=prompt")[0].1;
    assert!(
        masked.contains("<|im_start|>assistant\n") && masked.contains("⟦B<|im_end|>"),
        "{masked}"
    );
}

fn spoken(id: u32, file: &str) -> Value {
    json!({
        "id": format!("row-{id}"), "slurp_id": id, "meta": { "filename": file },
        "candidates": ["wake me at six", { "hypothesis": "wake me at sex" }, "a", "b", "c", "never shown"],
        "rationale_text": { "why": "an alarm", "sure": [1, true] },
        "final": { "intent": "alarm_set", "entities": [{ "type": "time", "filter": "six" }] },
    })
}

const LABEL: &str = r#"{"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "six"}]}"#;
const HEARD: &str = "ASR n-best hypotheses:\n- 1. wake me at six\n- 2. wake me at sex\n- 3. a\n- 4. b\n- 5. c";
const REASONS: &str = "Rationale:\n{\"why\": \"an alarm\", \"sure\": [1, true]}";

#[test]
fn commands_are_taught_with_their_rationales_read_or_written() {
    let workshop = Workshop::new();
    let clips = repository().join("plugins/tasks/slurp/demo");
    let clips = clips.display();
    let file = workshop.rows(
        "spoken.jsonl",
        &[spoken(1, "/elsewhere/audio-demo-900001.wav"), spoken(2, "gone.wav")],
    );
    let of = |more: &str| {
        let line = format!("--task slurp --train_file {file} --audio_dir {clips} {more}");
        lessons(&workshop, "qwen2-audio", "qwen2-audio/demo", &line)
    };
    let read = of("-T rationale=given");
    assert_eq!(read.len(), 1, "the row without its clip is left out: {read:?}");
    let text = &read[0].1;
    let asked = "Predict the final SLU label from speech, ASR n-best, and rationale.\nOutput JSON only with keys: scenario, action, \
                 entities.";
    assert!(
        text.contains(&format!("{asked}\n\n{HEARD}\n\n{REASONS}\n\nReturn only: ")),
        "{text}"
    );
    let (before, learnt) = text.split_once('⟦').expect("something learnt");
    assert!(learnt.starts_with(LABEL) && learnt.ends_with('⟧'), "{learnt}");
    assert!(before.contains("<|im_start|>assistant\n"), "{before}");
    let written = &of("-T rationale=written")[0].1;
    let (before, learnt) = written.split_once('⟦').expect("something learnt");
    assert!(
        before.contains("Predict the final SLU label.") && !before.contains("ASR"),
        "{before}"
    );
    assert!(
        learnt.starts_with(&format!("{HEARD}\n{REASONS}\nSLU:{LABEL}")),
        "{learnt}"
    );
    let twice = of("-T rationale=given --add_text_only");
    assert_eq!(
        twice.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["row-1", "row-1 as text"]
    );
    assert!(
        twice[1]
            .1
            .contains(&format!("{asked}\n\nTranscript:\nwake me at six\n\n{HEARD}")),
        "{}",
        twice[1].1
    );
}

#[test]
fn missing_clips_end_the_run_or_become_text() {
    let workshop = Workshop::new();
    let file = workshop.rows("silent.jsonl", &[spoken(1, "gone.wav"), spoken(2, "lost.wav")]);
    let run = |more: &str| {
        let weights = repository().join("plugins/models/qwen2-audio/demo");
        let line = format!(
            "train --model qwen2-audio -M weights={} --task slurp -T rationale=given --train_file {file} --show 9 {more}",
            weights.display()
        );
        workshop.host(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let (exit, text, said) = run("");
    assert_eq!(exit, Some(0), "{said}");
    assert!(
        said.contains("no clip is there at all; samples learnt as text: 2 of 2"),
        "{said}"
    );
    assert!(text.contains("Transcript:\nwake me at six"), "{text}");
    let (exit, _, said) = run("--strict_audio_missing");
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("the clip of sample `row-1` is missing"), "{said}");
    let (exit, _, said) = run("--no_text_fallback_when_audio_missing");
    assert_eq!(exit, Some(3), "{said}");
    assert!(
        said.contains("2 of 2 samples left out, since their clips are missing"),
        "{said}"
    );
}
