//! Several processes, here threads, that learn together.

use super::*;

/// What disturbs one of several processes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// It fails at a step.
    Fault(u64, Fault),
    /// It cannot read a row.
    Row(Split, u64),
    /// It is asked to stop at the event of a split at a step.
    Stop(&'static str, u64),
}

/// Trains with this many processes, each a thread here, one of which has trouble.
fn together(out: &Path, world: u32, accumulate: u32, trouble: Option<(u32, Trouble)>) -> Vec<(Result<Learnt>, School)> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let found = crate::run::checkpoint::newest(out);
    let one = |rank: u32| {
        let mut plan = Plan {
            rank,
            world,
            accumulate,
            resume: found.clone(),
            ..plan(out)
        };
        plan.other.insert("logging_steps".to_owned(), json!(1));
        plan.other.insert("per_device_eval_batch_size".to_owned(), json!(2));
        let processes = json!({ "engine": "tcp", "address": "127.0.0.1", "port": free.min(60_000), "job": "test" });
        plan.other.insert("processes".to_owned(), processes);
        let (mut school, mut pupil) = (School::new(29), Pupil::default());
        pupil.steady = true;
        match trouble.filter(|(of, _)| *of == rank) {
            Some((_, Trouble::Fault(step, fault))) => pupil.fault = Some((step, fault)),
            Some((_, Trouble::Row(split, row))) => school.broken = Some((split, row)),
            Some((_, Trouble::Stop(event, step))) => school.stop_at = Some((event, step)),
            None => {}
        }
        let learnt = run(&plan, &school, &mut pupil);
        (learnt, school)
    };
    let one = &one;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..world).map(|rank| scope.spawn(move || one(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn losses(school: &School) -> Vec<f64> {
    let lines = school.of("train");
    lines.iter().filter_map(|line| line.get("loss")?.as_f64()).collect()
}

#[test]
fn two_processes_are_one_that_accumulates() {
    let outs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = losses(&together(outs[0].path(), 1, 2, None)[0].1);
    for (learnt, school) in together(outs[1].path(), 2, 1, None) {
        learnt.unwrap();
        let losses = losses(&school);
        assert_eq!(losses.len(), one.len());
        assert!(
            losses.iter().zip(&one).all(|(loss, other)| (loss - other).abs() < 1e-6),
            "{losses:?} {one:?}"
        );
    }
}

#[test]
fn a_process_that_fails_ends_the_others_with_its_message() {
    let out = tempfile::tempdir().unwrap();
    for (learnt, _) in together(out.path(), 2, 1, Some((1, Trouble::Fault(3, Fault::Broken)))) {
        let error = learnt.unwrap_err().to_string();
        assert!(error.contains("the engine broke"), "{error}");
    }
}

/// A row of a step or of an evaluation, and a request to stop: each time one of three processes meets it.
#[test]
fn processes_part_together_and_go_on_to_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    together(whole.path(), 3, 1, None)
        .into_iter()
        .for_each(|(learnt, _)| drop(learnt.unwrap()));
    let last = |out: &Path| {
        let model = bytes(&out.join("final_model"), "model.safetensors");
        let newest = crate::run::checkpoint::newest(out).unwrap();
        (model, bytes(&newest, "optimizer.safetensors"), history(&newest))
    };
    let row = |row| Trouble::Row(Split::Train, row);
    let held_out = |row| Trouble::Row(Split::HeldOut, row);
    for rank in 0..3 {
        // The process reads two rows of the third step.
        let own = crate::run::Order::Transformers.rows(29, 42, 0)[12 + 2 * rank as usize + 1];
        let troubles = [
            row(u64::from(own)),
            held_out(2 * u64::from(rank)),
            Trouble::Stop("step", 2),
        ];
        for trouble in troubles {
            let out = tempfile::tempdir().unwrap();
            for (learnt, _) in together(out.path(), 3, 1, Some((rank, trouble))) {
                let error = learnt.unwrap_err();
                let expected = match trouble {
                    Trouble::Stop(..) => (Code::CANCELLED, "interrupted at step 3 of 10"),
                    _ => (Code::CLIP, "its clip is cut short"),
                };
                assert!(
                    error.code == expected.0 && error.to_string().contains(expected.1),
                    "{trouble:?} {error:?}"
                );
            }
            for (learnt, school) in together(out.path(), 3, 1, None) {
                learnt.unwrap();
                assert!(
                    school.words().contains("going on at step"),
                    "{trouble:?} {}",
                    school.words()
                );
            }
            assert!(last(out.path()) == last(whole.path()), "{trouble:?} of process {rank}");
        }
    }
}

#[test]
fn a_full_disk_ends_all_processes_with_one_error() {
    let out = tempfile::tempdir().unwrap();
    for (learnt, _) in together(out.path(), 2, 1, Some((0, Trouble::Fault(4, Fault::DiskFull)))) {
        let error = learnt.unwrap_err();
        assert!(
            error.code == Code::UNWRITABLE && error.message.starts_with("cannot save"),
            "{error:?}"
        );
    }
}
