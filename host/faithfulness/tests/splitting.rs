use faithfulness::letters::{Letter, Reader, offered};
use faithfulness::reasoning::{Leak, Sanitizer, loops};
use faithfulness::{Splitter, words};

#[track_caller]
fn punkt(text: &str, expected: usize) {
    let sentences = Splitter::Punkt.split(text);
    assert_eq!(sentences.len(), expected, "{text:?} was cut into {sentences:?}");
}

#[track_caller]
fn regex(text: &str, expected: usize) {
    assert_eq!(Splitter::Regex.split(text).len(), expected, "{text:?}");
}

#[test]
fn punkt_cuts_as_the_reference_does() {
    punkt("The answer is C. The cat meows.", 1);
    punkt("The answer is A. The cat meows.", 2);
    punkt("The answer is B. The cat meows.", 2);
    punkt("I heard approx. three dogs.", 2);
    punkt("Hmm... no.", 1);
    punkt("Wait... The bell rings.", 2);
    punkt("It rang at 5 p.m. The dog barked.", 2);
    punkt("What?! Really?? Yes!", 3);
    punkt("e.g. a cow.", 2);
    punkt("(It purrs.) Then silence.", 2);
    punkt("The clip (0.5 s. long) ends.", 1);
    punkt("It is loud.Then quiet.", 1);
    punkt("Option 1. Cat. Option 2. Dog.", 4);
    punkt("1. Cow. 2. Dog.", 4);
    punkt("First line\nSecond line. Third", 2);
    // The last mark has nothing after it, and so is no candidate.
    punkt("Stop!!!", 2);
    punkt("Stop!!! Now.", 2);
    punkt("", 0);
    punkt(" \n ", 0);
}

#[test]
fn closing_quotes_and_marks_stay_with_their_sentence() {
    let cut = |text| Splitter::Punkt.split(text);
    assert_eq!(
        cut("He said \"Stop!\" Then it rang."),
        ["He said \"Stop!\"", "Then it rang."]
    );
    assert_eq!(
        cut("**Conclusion:** It is a cat.** The rest."),
        ["**Conclusion:** It is a cat.", "** The rest."]
    );
    assert_eq!(cut("  It rang. Twice.  "), ["  It rang.", "Twice."]);
}

#[test]
fn the_regex_cuts_where_marks_and_blanks_meet() {
    regex("He said \"Stop!\" Then it rang.", 1);
    regex("The clip (0.5 s. long) ends.", 2);
    regex("The answer is C. The cat meows.", 2);
    assert_eq!(Splitter::Regex.split("One.  Two!\nThree"), ["One.", "Two!", "Three"]);
    assert_eq!(Splitter::Lines.split("a. b\n\n c \n"), ["a. b", "c"]);
}

#[test]
fn words_are_those_of_the_reference() {
    let joined = |text| words(text).join(" ");
    assert_eq!(
        joined("It isn't a dog's bark, so (B) \"fits\"."),
        "It is n't a dog 's bark , so ( B ) `` fits '' ."
    );
    assert_eq!(words("It isn't a dog's bark, so (B) \"fits\".").len(), 16);
    assert_eq!(joined("'Tis late; I cannot."), "' Tis late ; I can not .");
}

#[test]
fn letters_are_those_that_a_question_offers() {
    assert_eq!(offered("(A) sheep\n(B) cat"), ['A', 'B']);
    assert_eq!(offered("(a) sheep (b) cat (c) dog"), ['A', 'B', 'C']);
    assert_eq!(offered("A. yes\nB. no"), ['A', 'B']);
    assert_eq!(Letter::read("b", &['A', 'B']), Some(Letter::Option('B')));
    assert_eq!(Letter::read("Y", &['A', 'B']), None);
    assert_eq!(Letter::read("REFUSAL", &['A', 'B']), Some(Letter::Refusal));
}

#[test]
fn replies_are_read_as_each_release_reads_them() {
    let options: Vec<String> = ["sheep", "cat", "dog", "cow"].map(str::to_owned).into();
    #[track_caller]
    fn check(reader: Reader, options: &[String], reply: &str, expected: Option<char>) {
        assert_eq!(
            reader.read(reply, options),
            expected.map(Letter::Option),
            "{reader:?}: {reply}"
        );
    }
    check(Reader::R1, &options, "A dog? No, I say C.", Some('C'));
    check(Reader::R1Conditioned, &options, "The answer is: b, not C)", Some('B'));
    check(Reader::R2, &options, "So (C) fits", Some('C'));
    check(Reader::R2, &options, "It must be the cat", Some('B'));
    check(Reader::R2Conditioned, &options, "(A) or rather (D)", Some('D'));
    check(Reader::R2Conditioned, &options, "A cow, clearly", Some('D'));
    check(Reader::Omni, &options, "<Conclusion> b </Conclusion>", Some('B'));
    check(Reader::Legacy, &options, "(y)", None);
    assert_eq!(Reader::Legacy.read("It is ambiguous.", &options), Some(Letter::Refusal));
}

#[test]
fn the_statement_of_the_answer_is_taken_off() {
    let text = "It meows. It purrs. Therefore, the answer is B.";
    assert_eq!(Sanitizer::R1.sanitize(text), "It meows. It purrs.");
    assert_eq!(Sanitizer::R2.sanitize(text), "It meows. It purrs.");
    assert_eq!(Sanitizer::R2.sanitize("The answer is B."), "");
    assert_eq!(Sanitizer::R3.sanitize("The answer is B."), "The answer is B.");
    assert_eq!(
        Sanitizer::Tags.sanitize("<Reasoning>\nIt meows.\n</Reasoning><Conclusion>B"),
        "It meows."
    );
    assert_eq!(Sanitizer::Tags.sanitize("It meows."), "It meows.");
}

#[test]
fn leaks_and_loops_are_seen() {
    assert_eq!(Leak::of("So (b) it is.", &['A', 'B'], None), Leak::Letter);
    assert_eq!(
        Leak::of("I hear it. It is a cat.", &['A', 'B'], Some("Cat")),
        Leak::OptionText
    );
    assert_eq!(Leak::of("I hear it purr.", &['A', 'B'], Some("Cat")), Leak::None);
    assert!(loops(&["a.", "b.", "a.", "a."]));
    assert!(!loops(&["a.", "b.", "a."]));
}
