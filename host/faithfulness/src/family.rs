//! Prompt families: how a model is given a reasoning and asked for the letter.
//!
//! They are data with a name and a hash, because the published runs mix several, and their answers can't be compared.

use crate::letters::Reader;
use sha2::{Digest, Sha256};

/// How the conditioned answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// The task's own prompt; the model's turn is begun with the reasoning, and the answer is read as a choice.
    #[default]
    Prefill,
    /// R2 of AF3: question, reasoning and the beginning of the answer in the user's turn.
    ShortAnswer,
    /// R2 and R3 of Omni: a template of tags, filled and left open in the user's turn.
    Tags,
    /// R3's older models: question, reasoning as the model's turn, then the user asks for the letter.
    TwoTurns,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    User,
    Model,
}

/// A conversation to be answered. The clip goes to the first turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub turns: Vec<(Speaker, String)>,
    /// Whether the clip comes before the words of its turn.
    pub clip_first: bool,
    pub max_tokens: u32,
    pub reader: Reader,
}

const REQUEST: &str = "Select one option from the provided choices.";
const THEREFORE: &str = "Therefore, the answer is:";
const TEMPLATE: &str = "Answer in this form: <Reasoning>your reasoning</Reasoning><Conclusion>letter</Conclusion>";
const LETTER_ONLY: &str = "Give only the letter of the right choice, in parentheses.";

impl Family {
    pub const NAMES: [&str; 4] = [
        "prefill",
        "af3_conditioned_short_answer",
        "qwen_omni_xml_conditioned",
        "legacy_two_turn_conditioned",
    ];

    pub fn parse(name: &str) -> Option<Family> {
        let all = [Family::Prefill, Family::ShortAnswer, Family::Tags, Family::TwoTurns];
        all.into_iter().find(|family| family.name() == name)
    }

    pub fn name(self) -> &'static str {
        Family::NAMES[self as usize]
    }

    /// Changes with every word that the family adds.
    pub fn hash(self) -> String {
        let words = match self.asked("{question}", "{choices}", "{reasoning}") {
            Some(asked) => format!("{asked:?}"),
            None => format!("{}{}", self.prefill("{reasoning}"), self.prefill("")),
        };
        let digest = Sha256::digest(format!("{}\n{words}", self.name()));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The conversation; none for the family that continues the task's own prompt. An empty reasoning asks without any.
    pub fn asked(self, question: &str, choices: &str, reasoning: &str) -> Option<Asked> {
        let none = reasoning.is_empty();
        Some(match self {
            Family::Prefill => return None,
            Family::ShortAnswer => Asked {
                turns: vec![(
                    Speaker::User,
                    match none {
                        true => format!("{question} {REQUEST}\n{choices}. "),
                        false => format!("{question} {REQUEST}\n{choices}. \n\n{reasoning}\n\n{THEREFORE}"),
                    },
                )],
                clip_first: false,
                max_tokens: 20,
                reader: Reader::R2Conditioned,
            },
            Family::Tags => Asked {
                turns: vec![(
                    Speaker::User,
                    format!("{question}\n{choices}\n{TEMPLATE}\n<Reasoning>{reasoning}</Reasoning><Conclusion>"),
                )],
                clip_first: true,
                max_tokens: 32,
                reader: Reader::Omni,
            },
            Family::TwoTurns => {
                let question = (Speaker::User, format!("Question: {question}\nChoices:\n{choices}"));
                let turns = match none {
                    true => vec![(Speaker::User, format!("{}\n{LETTER_ONLY}", question.1))],
                    false => vec![
                        question,
                        (Speaker::Model, format!("Let's think step by step: {reasoning}")),
                        (Speaker::User, LETTER_ONLY.to_owned()),
                    ],
                };
                Asked {
                    turns,
                    clip_first: true,
                    max_tokens: 50,
                    reader: Reader::Legacy,
                }
            }
        })
    }

    /// What the model's turn begins with, before the letter is read.
    pub fn prefill(self, reasoning: &str) -> String {
        match reasoning.is_empty() {
            true => format!("{THEREFORE} ("),
            false => format!("{reasoning}\n\n{THEREFORE} ("),
        }
    }

    /// The same without the parenthesis, for answers that are no letter.
    pub fn open_prefill(self, reasoning: &str) -> String {
        let text = self.prefill(reasoning);
        text.trim_end_matches(" (").to_owned()
    }
}
