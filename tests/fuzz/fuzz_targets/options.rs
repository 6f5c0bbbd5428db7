//! Letters, options and numbers out of replies.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, Vec<&str>)| {
    let (reply, options) = data;
    for count in [0, 1, 4, 26, options.len()] {
        let letter = score::option_letter(reply, count);
        assert!(letter.is_none_or(|letter| (0..count).any(|index| score::letter_of(index) == Some(letter))));
    }
    for found in [score::option(reply, &options), score::option_text(reply, &options)] {
        assert!(found.is_none_or(|index| index < options.len()));
    }
    let _ = (
        score::number(reply),
        score::only_number(reply),
        score::normalised(reply),
    );
});
