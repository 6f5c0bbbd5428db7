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

mod texts {
    use faithfulness::family::Family;
    use faithfulness::texts::{Filler, Side, faults, filled, share, shuffled, with_sentence, without};
    use faithfulness::words;

    #[test]
    fn words_are_replaced_as_published() {
        let words = words("It isn't a dog's bark, so (B) \"fits\".");
        let dots = |percent, side| filled(&words, percent, side, Filler::Dots, "s");
        assert_eq!(dots(25.0, Side::Start), "... dog 's bark , so ( B ) `` fits '' .");
        assert_eq!(dots(50.0, Side::End), "It is n't a dog 's bark , ...");
        assert_eq!(dots(0.0, Side::Random), words.join(" "));
        assert_eq!(dots(100.0, Side::Random), ["..."; 16].join(" "));
        assert_eq!(dots(50.0, Side::Random).matches("...").count(), 8);
        let lorem = filled(&words, 50.0, Side::Start, Filler::Lorem, "s");
        assert_eq!(lorem.split(' ').count(), 16);
        assert_eq!(filled(&words, 50.0, Side::Start, Filler::Lorem, "s"), lorem);
    }

    #[test]
    fn shares_have_the_published_rounding() {
        assert_eq!((share(70.0, 90), share(35.0, 180), share(100.0, 7)), (62, 62, 7));
    }

    #[test]
    fn sentences_are_put_together_again() {
        let sentences = ["It purrs.", "It is a cat.", "So B."];
        assert_eq!(
            with_sentence(&sentences, 2, "It is a cow. ", " So D."),
            "It purrs. It is a cow. So D."
        );
        assert_eq!(without(&sentences, 1), "It is a cat. So B.");
        assert_ne!(shuffled(&sentences, "s"), sentences.join(" "));
    }

    #[test]
    fn written_sentences_are_checked() {
        let check = |written| faults("It is a cat that purrs.", written, &['A', 'B']);
        assert_eq!(check("It is a cow that moos."), [""; 0]);
        assert_eq!(check("it  is a CAT that purrs."), ["unchanged"]);
        assert_eq!(check(" "), ["empty"]);
        assert_eq!(check("Here is one: it is a cow."), ["preamble"]);
        assert_eq!(check("It is (B) that purrs loudly."), ["option_letter"]);
        assert_eq!(check("No."), ["length"]);
        assert_eq!(check("1. It is a cow.\n2. It moos."), ["several_versions"]);
    }

    #[test]
    fn families_have_names_and_hashes_of_their_own() {
        let hashes: std::collections::BTreeSet<String> = Family::NAMES
            .iter()
            .map(|name| Family::parse(name).unwrap().hash())
            .collect();
        assert_eq!(hashes.len(), Family::NAMES.len());
    }
}
