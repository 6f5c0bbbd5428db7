//! LoRAs through the real program: chosen for a run, and merged into their base.

use crate::building::repository;
use crate::pairs;
use crate::support::host_program;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder to work in, with a copy of a recorded checkpoint and its LoRA.
struct Bench {
    folder: TempDir,
    base: PathBuf,
    lora: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        pairs::registry(folder.path());
        let base = repository().join("plugins/models/qwen3/golden/tied");
        Bench {
            lora: base.join("lora"),
            base,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self, arguments: &str) -> Output {
        Command::new(host_program())
            .args(arguments.split_whitespace())
            .args(["--registry", "pairs.toml", "--offline"])
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .output()
            .expect("the program starts")
    }

    /// Runs a command, expects this exit code and this text, and returns standard output.
    #[track_caller]
    fn check(&self, arguments: &str, exit: i32, words: &[&str]) -> String {
        let output = self.host(arguments);
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(output.status.code(), Some(exit), "`host {arguments}`\n{out}\n{err}");
        let both = format!("{out}\n{err}");
        let missing = words.iter().find(|words| !both.contains(**words));
        assert_eq!(missing, None, "in what `host {arguments}` said:\n{both}");
        out
    }

    /// The answers of one run, in the order of the samples.
    #[track_caller]
    fn answers(&self, out: &str, more: &str) -> Vec<Value> {
        let data = repository().join("plugins/tasks/arc/demo");
        let settings = format!(
            "-M weights={} -M lora=tuned={}",
            self.base.display(),
            self.lora.display()
        );
        let task = format!("-T data={} -T mode=loglikelihood", data.display());
        self.check(
            &format!("run --model qwen3 --task arc {settings} {task} --limit 5 --out {out} {more}"),
            0,
            &[],
        );
        let run = fs::read_dir(self.path(out))
            .expect("runs")
            .next()
            .expect("a run")
            .expect("its folder");
        let records = fs::read_to_string(run.path().join("samples.jsonl")).expect("records");
        let mut records: Vec<Value> = records
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        records.sort_by_key(|record| record["doc_id"].as_u64());
        records.iter().map(|record| record["resps"].clone()).collect()
    }
}

#[test]
fn a_run_says_which_loras_answer() {
    let bench = Bench::new();
    let as_loaded = bench.answers("default", "");
    let chosen = bench.answers("chosen", "--lora tuned");
    let without = bench.answers("without", "--lora none");
    assert_eq!(as_loaded.len(), 5);
    assert_eq!(chosen, as_loaded, "the one that is held is on by default");
    assert!(without.iter().zip(&chosen).all(|(a, b)| a != b), "{without:?}");

    let run = |out: &str| fs::read_dir(bench.path(out)).unwrap().next().unwrap().unwrap().path();
    let names: Vec<_> = ["default", "chosen", "without"]
        .map(|out| run(out).file_name().unwrap().to_owned())
        .into();
    assert!(
        names[0] != names[1] && names[1] != names[2] && names[0] != names[2],
        "{names:?}"
    );
    let toml = run("without").join("run.toml");
    assert!(fs::read_to_string(&toml).unwrap().contains("lora = \"none\""));
    // The run's own file repeats it: nothing is left to do.
    let again = format!("run --config {} --out without", toml.display());
    bench.check(&again, 0, &[]);
    assert_eq!(fs::read_dir(bench.path("without")).unwrap().count(), 1);

    let model = format!(
        "run --model qwen3 --task arc --demo -M weights={}",
        bench.base.display()
    );
    let held = format!("-M lora=tuned={}", bench.lora.display());
    bench.check(
        &format!("{model} {held} --lora tunde"),
        2,
        &["`--lora tunde`", "did you mean `tuned`?"],
    );
    bench.check(
        &format!("{model} --lora tuned"),
        2,
        &["holds no LoRA", "-M lora=tuned=FOLDER"],
    );
    let misfit = format!("run --model qwen3 --task arc --demo -M lora={}", bench.lora.display());
    bench.check(
        &misfit,
        3,
        &["adapter_model.safetensors", "lora_A.weight", "another model"],
    );
}

fn tensors(file: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(file).expect("a file of weights");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let table = header
        .as_object()
        .expect("a table")
        .iter()
        .filter(|(name, _)| *name != "__metadata__");
    let data = |entry: &Value| {
        let at = |place: usize| 8 + length + entry["data_offsets"][place].as_u64().expect("an offset") as usize;
        bytes[at(0)..at(1)].to_vec()
    };
    table.map(|(name, entry)| (name.clone(), data(entry))).collect()
}

#[test]
fn a_merged_checkpoint_answers_as_base_and_lora_do() {
    let bench = Bench::new();
    let settings = format!("merge --model qwen3 -M weights={}", bench.base.display());
    let merge = format!("{settings} --lora {} --out merged", bench.lora.display());
    let answer: Value = serde_json::from_str(&bench.check(&format!("{merge} --json"), 0, &[])).expect("JSON");
    assert_eq!(answer["layers"], 10, "five layers of each of two blocks");
    assert_eq!(answer["prompts"], 4);
    let apart = answer["max_abs_diff"].as_f64().expect("a difference");
    assert!(apart < 1e-4, "{apart}");

    // Of the base's tensors exactly those changed that the LoRA has factors for.
    let merged = bench.path("merged");
    let (before, after) = (
        tensors(&bench.base.join("model.safetensors")),
        tensors(&merged.join("model.safetensors")),
    );
    assert_eq!(before.len(), after.len());
    for ((name, before), (same, after)) in before.iter().zip(&after) {
        assert_eq!(name, same);
        let changes = ["q_proj.weight", "k_proj", "v_proj", "o_proj", "down_proj"]
            .iter()
            .any(|it| name.contains(it));
        assert_eq!(before != after, changes, "{name}");
    }
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        assert_eq!(
            fs::read(bench.base.join(name)).unwrap(),
            fs::read(merged.join(name)).unwrap()
        );
    }
    // The merged checkpoint gives, without the LoRA, the answers that were recorded with it.
    fs::create_dir(merged.join("golden")).unwrap();
    for name in ["cases.json", "golden.safetensors"] {
        fs::copy(bench.lora.join(name), merged.join("golden").join(name)).unwrap();
    }
    bench.check("parity --model qwen3 merged", 0, &[]);

    // An existing folder is not replaced, unless it is a checkpoint and nothing else, and force is used.
    bench.check(&merge, 2, &["already exists", "--force"]);
    bench.check(&format!("{merge} --force"), 2, &["other than a checkpoint"]);
    fs::remove_dir_all(merged.join("golden")).unwrap();
    bench.check(&format!("{merge} --force"), 0, &["10 layers changed, in 1 files"]);
    let left = fs::read_dir(bench.folder.path())
        .unwrap()
        .filter_map(|entry| entry.ok());
    let stray: Vec<_> = left
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(stray.is_empty(), "{stray:?}");
}

/// A base that bitsandbytes quantised: made by `golden/make_four_bits.py` of the plugin qwen3.
#[test]
fn a_four_bit_base_is_trained_beside_and_merged_into() {
    let bench = Bench::new();
    let base = repository().join("plugins/models/qwen3/golden/four_bits");
    let rows: String = (0..8)
        .map(|n| {
            format!(
                "{{\"input_ids\":[{},7,9,{}],\"labels\":[-100,7,9,{n}]}}\n",
                20 + n,
                n,
                n = n
            )
        })
        .collect();
    fs::write(bench.path("rows.jsonl"), rows).unwrap();
    let train = format!(
        "train --model qwen3 -M weights={} --rows rows.jsonl --max_steps 2",
        base.display()
    );
    let full = ["is stored in four bits and cannot be learnt", "--method qlora"];
    bench.check(&format!("{train} --method full --out full"), 2, &full);
    bench.check(&format!("{train} --method full --dry-run"), 2, &full);
    let own = "`model.layers.0.mlp.up_proj.weight` is stored in four bits";
    bench.check(
        &format!("{train} --method lora --unfreeze layers.0.mlp.up --out own"),
        2,
        &[own],
    );
    for method in ["qlora", "lora"] {
        bench.check(&format!("{train} --method {method} --seed 3 --out {method}"), 0, &[]);
    }
    let adapter = |method: &str| fs::read(bench.path(&format!("{method}/final_model/adapter_model.safetensors")));
    assert!(
        adapter("qlora").unwrap() == adapter("lora").unwrap(),
        "both train beside the same codes"
    );

    let merge = format!(
        "merge --model qwen3 -M weights={} --lora qlora/final_model --out merged",
        base.display()
    );
    bench.check(&merge, 0, &["4 layers changed, in 1 files"]);
    let config = fs::read_to_string(bench.path("merged/config.json")).unwrap();
    assert!(!config.contains("quantization_config"), "{config}");
    let names: Vec<String> = tensors(&bench.path("merged/model.safetensors"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.len() == 24 && names.iter().all(|name| name.ends_with(".weight")),
        "{names:?}"
    );
}

/// SALMONN's language model is a folder of its own, plain or in four bits, or a part of a converted one.
#[test]
fn salmonn_is_merged_where_its_language_model_lies() {
    let bench = Bench::new();
    let golden = repository().join("plugins/models/salmonn/golden");
    let parts = format!("-M weights={}", golden.join("tiny").display());
    let four_bits = format!("{parts} -M vicuna={}", golden.join("four_bits/vicuna").display());
    let row = |n: usize| {
        format!(
            "{{\"input_ids\":[1,{},7,9,{n}],\"labels\":[-100,-100,7,9,{n}]}}\n",
            20 + n
        )
    };
    fs::write(bench.path("rows.jsonl"), (3..11).map(row).collect::<String>()).unwrap();
    let train = "train --model salmonn --rows rows.jsonl --max_steps 2 --learning_rate 0.05";
    let full = ["four_bits/vicuna` is stored in four bits and cannot be learnt"];
    bench.check(&format!("{train} {four_bits} --method full --out full"), 2, &full);
    for method in ["qlora", "lora"] {
        bench.check(&format!("{train} {four_bits} --method {method} --out {method}"), 0, &[]);
    }
    let adapter = |method: &str| fs::read(bench.path(&format!("{method}/final_model/adapter_model.safetensors")));
    assert!(adapter("qlora").unwrap() == adapter("lora").unwrap());
    bench.check(&format!("convert salmonn {four_bits} --out one"), 0, &[]);
    for (base, out) in [(four_bits.as_str(), "apart"), ("-M weights=one", "together")] {
        let merge = format!("merge --model salmonn {base} --lora qlora/final_model --out {out}");
        let printed = bench.check(&format!("{merge} --json"), 0, &[]);
        let printed: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(
            (&printed["layers"], &printed["prompts"]),
            (&4.into(), &4.into()),
            "{printed}"
        );
        // The type of the result has eleven bits; the LoRA changes logits by 6.
        let apart = printed["max_abs_diff"].as_f64().expect("a difference");
        assert!(apart < 0.1, "{printed}");
        let config = fs::read_to_string(bench.path(out).join("config.json")).unwrap();
        assert!(!config.contains("quantization_config"), "{config}");
    }
}

#[test]
fn what_cannot_be_merged_leaves_nothing_behind() {
    let bench = Bench::new();
    let base = bench.base.display();
    let lora = bench.lora.display();
    let missing = format!("merge --model qwen3 -M weights={base} --lora /nowhere --out merged");
    bench.check(&missing, 3, &["`/nowhere` holds no LoRA", "adapter_config.json"]);
    let demo = repository().join("plugins/models/qwen3/demo");
    let other = format!(
        "merge --model qwen3 -M weights={} --lora {lora} --out merged",
        demo.display()
    );
    bench.check(&other, 3, &["lora_A.weight", "another model"]);
    bench.check(
        &format!("merge --model echo --lora {lora} --out merged"),
        4,
        &["can't merge"],
    );
    // Far below the precision of the base's type: the result would be a copy of the base.
    let faint = bench.path("faint");
    fs::create_dir(&faint).unwrap();
    let weights = "adapter_model.safetensors";
    fs::copy(bench.lora.join(weights), faint.join(weights)).unwrap();
    let config = fs::read_to_string(bench.lora.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["lora_alpha"] = 1e-30.into();
    config["alpha_pattern"] = Value::Null;
    fs::write(faint.join("adapter_config.json"), config.to_string()).unwrap();
    let merge = format!("merge --model qwen3 -M weights={base} --lora faint --out merged");
    bench.check(&merge, 3, &["merged into", "changes nothing", "use it unmerged"]);
    assert!(!bench.path("merged").exists());
}
