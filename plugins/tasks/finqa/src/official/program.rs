//! Splits programs like the official scorer: tokens, then steps.
//!
//! The decision a newcomer would question: steps are found in the joined text, not in the token list. The official
//! scorer does so, which matters for tokens that contain a bracket or a bar.

use crate::official::python::strip;

/// The operators that a program may use.
pub const OPERATORS: [&str; 10] = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "exp",
    "greater",
    "table_max",
    "table_min",
    "table_sum",
    "table_average",
];

/// What stands at the end of a list of tokens.
pub const END: &str = "EOF";

/// The tokens of a program that is written as text: `add(1, 2)` is `add(`, `1`, `2`, `)`, `EOF`.
pub fn tokens(program: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for piece in program.split(", ") {
        let mut token = String::new();
        for letter in piece.chars() {
            if letter == ')' && !token.is_empty() {
                tokens.push(std::mem::take(&mut token));
            }
            token.push(letter);
            if matches!(letter, '(' | ')') {
                tokens.push(std::mem::take(&mut token));
            }
        }
        if !token.is_empty() {
            tokens.push(token);
        }
    }
    tokens.push(END.to_owned());
    tokens
}

/// A list of tokens as people write a program; the reverse of [`tokens`] for a program that is well formed.
pub fn written<S: AsRef<str>>(tokens: &[S]) -> String {
    let mut text = String::new();
    for token in tokens.iter().map(AsRef::as_ref).filter(|token| *token != END) {
        if !(text.is_empty() || text.ends_with('(') || token == ")") {
            text.push_str(", ");
        }
        text.push_str(token);
    }
    text
}

/// Whether operators and closing brackets stand where they must, the last token left out of account.
pub(crate) fn is_well_formed<S: AsRef<str>>(tokens: &[S]) -> bool {
    let tokens = &tokens[..tokens.len().saturating_sub(1)];
    tokens
        .iter()
        .map(AsRef::as_ref)
        .enumerate()
        .all(|(index, token)| match index % 4 {
            0 => OPERATORS.contains(&token.trim_matches('(')),
            3 => token == ")",
            _ => true,
        })
}

/// The text that steps are cut out of. Steps borrow from it.
pub(crate) fn joined<S: AsRef<str>>(tokens: &[S]) -> String {
    let tokens: Vec<&str> = tokens[..tokens.len().saturating_sub(1)]
        .iter()
        .map(AsRef::as_ref)
        .collect();
    tokens.join("|")
}

/// The steps of a joined program, good and bad. What follows the last closing bracket is no step.
pub(crate) fn steps(joined: &str) -> Vec<Result<Step<'_>, Broken>> {
    let mut pieces: Vec<&str> = joined.split(')').collect();
    pieces.pop();
    pieces.into_iter().map(Step::read).collect()
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    /// The whole step, including a bar before it: table steps are recognised by this text.
    pub text: &'a str,
    pub operator: &'a str,
    pub arguments: [&'a str; 2],
}

/// Why a piece of a program is no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It has more than one opening bracket. The official scorer stops here and rounds its result.
    Nested,
    /// It has no opening bracket, or fewer than two arguments. The official scorer fails here and does not round.
    Short,
}

impl<'a> Step<'a> {
    fn read(piece: &'a str) -> Result<Step<'a>, Broken> {
        let text = strip(piece);
        let mut parts = text.split('(');
        let (Some(operator), Some(arguments)) = (parts.next(), parts.next()) else {
            return Err(Broken::Short);
        };
        if parts.next().is_some() {
            return Err(Broken::Nested);
        }
        let bare = |text: &'a str| strip(text.trim_matches('|'));
        let mut arguments = bare(arguments).split('|').map(strip);
        match (arguments.next(), arguments.next()) {
            (Some(first), Some(second)) => Ok(Step {
                text,
                operator: bare(operator),
                arguments: [first, second],
            }),
            _ => Err(Broken::Short),
        }
    }

    /// Whether it is looked up in the table; the official scorer checks nothing else of the operator.
    pub fn is_of_table(&self) -> bool {
        self.operator.contains("table")
    }
}

/// Whether an argument refers to an earlier result.
pub(crate) fn is_reference(argument: &str) -> bool {
    argument.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: &str, expected: &[&str]) {
        assert_eq!(tokens(program), expected, "{program:?}");
    }

    #[test]
    fn programs_become_tokens() {
        check(
            "subtract(5829, 5735), divide(#0, 5735)",
            &["subtract(", "5829", "5735", ")", "divide(", "#0", "5735", ")", "EOF"],
        );
        check(
            "table_max(net sales, none)",
            &["table_max(", "net sales", "none", ")", "EOF"],
        );
        check("add(1,2)", &["add(", "1,2", ")", "EOF"]);
        check("", &["EOF"]);
        check("a), b", &["a", ")", "b", "EOF"]);
    }

    #[test]
    fn tokens_become_programs_again() {
        let program = "subtract(5829, 5735), divide(#0, 5735)";
        assert_eq!(written(&tokens(program)), program);
        assert_eq!(written::<&str>(&[]), "");
    }

    #[track_caller]
    fn check_steps(tokens: &[&str], expected: &[Result<(&str, [&str; 2]), Broken>]) {
        let joined = joined(tokens);
        let found = steps(&joined);
        let found: Vec<_> = found
            .iter()
            .map(|step| step.map(|step| (step.operator, step.arguments)))
            .collect();
        assert_eq!(found, expected, "{tokens:?}");
    }

    #[test]
    fn steps_are_cut_out_of_the_joined_text() {
        check_steps(&["add(", " 1 ", "2", ")", "EOF"], &[Ok(("add", ["1", "2"]))]);
        check_steps(&["add(", "2|3", "4", ")", "EOF"], &[Ok(("add", ["2", "3"]))]);
        check_steps(&["add(", "1", "2", ")"], &[]); // the end is taken off unseen
        check_steps(&["add(", "1", "2", ")", "exp(", "EOF"], &[Ok(("add", ["1", "2"]))]);
        check_steps(&["add((", "1", "2", ")", "EOF"], &[Err(Broken::Nested)]);
        check_steps(&["add", "1", "2", ")", "EOF"], &[Err(Broken::Short)]);
        check_steps(&["(add", "1", "2", ")", "EOF"], &[Ok(("", ["add", "1"]))]);
        check_steps(
            &["add(", "1)", "2", ")", "EOF"],
            &[Err(Broken::Short), Err(Broken::Short)],
        );
        check_steps(&[], &[]);
    }

    #[test]
    fn only_brackets_and_operators_have_a_place() {
        assert!(is_well_formed(&["(add((", "x", "y", ")", "anything"]));
        assert!(is_well_formed(&["EOF"]) && is_well_formed::<&str>(&[]));
        assert!(!is_well_formed(&["Add(", "1", "2", ")", "EOF"]));
        assert!(!is_well_formed(&["add (", "1", "2", ")", "EOF"]));
        assert!(!is_well_formed(&["add(", "1", "2", ") ", "EOF"]));
    }
}
