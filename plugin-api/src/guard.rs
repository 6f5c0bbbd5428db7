//! Catches panics and turns them into errors with the panic's text and place.

use crate::{Code, Error, Result};
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};

thread_local! {
    /// How many guards the thread is inside, and the text of the last panic in them.
    static GUARDS: RefCell<(usize, Option<String>)> = const { RefCell::new((0, None)) };
}

/// Runs `work`. A panic becomes an error with the panic's text and place.
pub(crate) fn guard<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(what, work).unwrap_or_else(Err)
}

/// The same, but tells a panic of `work` itself from an error that it passes on.
pub(crate) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, Error> {
    GUARDS.with_borrow_mut(|guards| guards.0 += 1);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let said = GUARDS.with_borrow_mut(|guards| {
        guards.0 -= 1;
        guards.1.take()
    });
    outcome.map_err(|payload| {
        let text = said.unwrap_or_else(|| payload_text(payload.as_ref()));
        std::mem::forget(payload); // its `Drop` may panic too, outside of any guard
        Error::new(Code::PANIC, format!("panicked in `{what}`: {text}"))
    })
}

fn payload_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(a payload that is not text)".to_owned())
}

/// Keeps the text of panics inside guards and sends those outside, on a plugin's own threads, to the host's log.
pub(crate) fn install_panic_hook() {
    let former = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|at| format!(" at {}:{}", at.file(), at.line()))
            .unwrap_or_default();
        let text = format!("{}{place}", payload_text(info.payload()));
        let guarded = GUARDS.try_with(|guards| {
            guards.try_borrow_mut().map(|mut guards| {
                let inside = guards.0 > 0;
                if inside {
                    guards.1 = Some(text.clone());
                }
                inside
            })
        });
        if !matches!(guarded, Ok(Ok(true)))
            && !crate::log::log(crate::log::Level::Error, &format!("a thread panicked: {text}"))
        {
            former(info);
        }
    }));
}
