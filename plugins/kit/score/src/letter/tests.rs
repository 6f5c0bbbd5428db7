use super::*;

#[track_caller]
fn check(reply: &str, expected: Option<char>) {
    assert_eq!(option_letter(reply, 4), expected, "reply: {reply:?}");
}

#[test]
fn a_letter_alone_however_dressed() {
    check("C", Some('C'));
    check("c", Some('C'));
    check(" C\n", Some('C'));
    check("C.", Some('C'));
    check("C)", Some('C'));
    check("(C)", Some('C'));
    check("(c)", Some('C'));
    check("[C]", Some('C'));
    check("**C**", Some('C'));
    check("**(C)**.", Some('C'));
    check("`C`", Some('C'));
    check("\"C\"", Some('C'));
    check("$C$", Some('C'));
    check("\\boxed{C}", Some('C'));
    check("$\\boxed{\\text{C}}$", Some('C'));
    check("\\boxed{(C)}", Some('C'));
    check("Option C", Some('C'));
    check("- C", Some('C'));
    check("a", Some('A'));
}

#[test]
fn a_declared_answer() {
    check("Answer: C", Some('C'));
    check("answer: c", Some('C'));
    check("Answer:\n\nC", Some('C'));
    check("**Answer:** C", Some('C'));
    check("**Answer: C**", Some('C'));
    check("**Answer**: (C) Sunlight", Some('C'));
    check("Final answer - C", Some('C'));
    check("## Answer\nC", Some('C'));
    check("The answer is C", Some('C'));
    check("The answer is C.", Some('C'));
    check("The answer is c.", Some('C'));
    check("The answer is: C", Some('C'));
    check("The answer is **C**.", Some('C'));
    check("The answer is (c) sunlight", Some('C'));
    check("The answer is **C. Sunlight**", Some('C'));
    check("The answer is option C", Some('C'));
    check("The correct answer is therefore C because of the light.", Some('C'));
    check("The best choice would be D", Some('D'));
    check("The correct option is B", Some('B'));
    check("The answer is A because dogs bark.", Some('A'));
    check("The answer is A, the dog.", Some('A'));
    check("The answer’s C.", Some('C'));
    check("So the final answer is $\\boxed{C}$.", Some('C'));
    check("Thus, \\boxed{\\text{D}}", Some('D'));
    check("#### B", Some('B'));
    check("I choose C", Some('C'));
    check("I'd go with option B.", Some('B'));
    check("I would say (D).", Some('D'));
    check("It's B.", Some('B'));
    check("Option C is correct.", Some('C'));
    check("C is the correct answer.", Some('C'));
    check("(C) is the best answer", Some('C'));
    check("I think C is right.", Some('C'));
}

#[test]
fn json_and_its_fences() {
    check("{\"answer\":\"C\"}", Some('C'));
    check("{\"answer\": \"c\"}", Some('C'));
    check(
        "```json\n{\"reason\": \"A dog barks.\", \"answer\": \"C\"}\n```",
        Some('C'),
    );
    check("{'choice': 'B'}", Some('B'));
    check("{\"answer\": [\"B\", \"C\"]}", None);
    check("{\"answer\": null}", None);
}

#[test]
fn the_last_declaration_counts() {
    check("A seemed right at first, but the answer is C.", Some('C'));
    check("The answer is B. Wait, no: the answer is C.", Some('C'));
    check("Answer: B\n\nCorrection.\n\nAnswer: D", Some('D'));
    check("B is correct? No, I choose D.", Some('D'));
    check("The answer is C. A is wrong, and so is B.", Some('C'));
    check("(A) is hot. (B) is cold. The answer is (B).", Some('B'));
}

#[test]
fn a_letter_that_marks_an_option() {
    check("C. Sunlight", Some('C'));
    check("C) Sunlight", Some('C'));
    check("c) sunlight", Some('C'));
    check("(C) Sunlight", Some('C'));
    check("C: Sunlight", Some('C'));
    check("C - Sunlight", Some('C'));
    check("**C. Sunlight**", Some('C'));
    check("**C** because it shines", Some('C'));
    check("- Sunlight=C", Some('C'));
    check("C because it shines", Some('C'));
    check("Option C looks right to me", Some('C'));
    check("D. carbon [C]", Some('D'));
    check("D. The E. coli and the host", Some('D'));
    check("- carbon [C]=D", Some('D'));
    check("It is bright, so (C) it is.", Some('C'));
    check("C\n\nThe plant needs light. A dog doesn't.", Some('C'));
    check("The plant needs light. A dog doesn't.\n\nC", Some('C'));
}

#[test]
fn a_sentence_that_starts_with_a_is_no_answer() {
    check("A dog barks twice.", None);
    check("A", Some('A'));
    check("Answer: A dog barks twice.", None);
    check("The answer is a dog.", None);
    check("The answer is A dog", None);
    check("I choose a dog", None);
    check("It is a dog.", None);
}

#[test]
fn a_reply_that_names_several_options_names_none() {
    check("A, B, C, D", None);
    check("A\nB\nC\nD", None);
    check("A. one\nB. two\nC. three\nD. four", None);
    check("(A) one (B) two", None);
    check("A) one B) two", None);
    check("A. one B. two C. three", None);
    check("Option A: one. Option B: two.", None);
    check("I can't tell option A from option B", None);
    check("- one=A\n- two=B", None);
    check("The answer is A or B.", None);
    check("The answer is either A or B.", None);
    check("The answer is B and C.", None);
    check("Answer: A, B, C, D", None);
    check("Answer: (A) or (B)", None);
    check("The answer is A/B.", None);
}

#[test]
fn what_names_no_option() {
    check("", None);
    check(" \n", None);
    check("I don't know.", None);
    check("Plants contain vitamin C.", None);
    check("Plan B", None);
    check("- natural selection=C\n- sexual selection=D", None);
    check("Vitamin C is the best.", None);
    check("The answer is not B.", None);
    check("B is not correct.", None);
    check("D is incorrect", None);
    check("The answer is sunlight", None);
    check("Answer:", None);
    check("the answer is", None);
    check("3", None);
    check("日本語", None);
    check("Ꮯ", None);
    check("e.g. sunlight", None);
}

#[test]
fn a_letter_beyond_the_options_is_no_answer() {
    check("E", None);
    check("The answer is F.", None);
    check("First I thought the answer is B. The answer is E.", None);
    assert_eq!(option_letter("E", 5), Some('E'));
    assert_eq!(option_letter("D", 3), None);
    assert_eq!(option_letter("Z", 26), Some('Z'));
    assert_eq!(option_letter("A", 0), None);
}

#[test]
fn an_option_by_letter_or_by_words() {
    #[track_caller]
    fn check(reply: &str, expected: Option<usize>) {
        let options = ["Rr", "rr", "carbon [C]", "A rock", "K"];
        assert_eq!(option(reply, &options), expected, "reply: {reply:?}");
    }
    check("C", Some(2));
    check("Rr", Some(0));
    check("carbon [C]", Some(2));
    check("The answer is carbon [C].", Some(2));
    check("The answer is A rock.", Some(3));
    check("Answer: D", Some(3));
    check("A rock", Some(3));
    check("The answer is F. carbon [C]", None);
    check("K.", Some(4));
    check("L", None);
    check("It has carbon [B] in it", Some(1)); // a marked letter, and no option's words
    check("It rocks", None);
}

#[test]
fn letters_by_index() {
    assert_eq!(
        (letter_of(0), letter_of(25), letter_of(26)),
        (Some('A'), Some('Z'), None)
    );
}

/// Pieces of replies in every order: the result is always one of the options, and nothing panics.
#[test]
fn junk_gives_no_letter_beyond_the_options() {
    let pieces = [
        "the answer is ",
        "A",
        "(c)",
        "\\boxed{",
        "}",
        "**",
        "\n",
        "é",
        "\u{2019}s ",
        " or ",
        "=",
        "####",
        "{\"answer\":",
        "B.",
        "'",
        "\0",
    ];
    let mut state = 1usize;
    for _ in 0..5000 {
        let mut reply = String::new();
        for _ in 0..6 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            reply.push_str(pieces[(state >> 33) % pieces.len()]);
        }
        let letter = option_letter(&reply, 2);
        assert!(
            letter.is_none_or(|letter| letter == 'A' || letter == 'B'),
            "{reply:?}: {letter:?}"
        );
    }
}
