//! Judges that ask a model: prompts, parsing of answers, and verdicts.
//!
//! `match` asks whether a reply calls the same tools with equivalent arguments, `winner` which of two replies is
//! better, `rubric` how good one reply is by a rubric of the user's. The model that answers plays the role `judge`;
//! any model of the catalog can. The decision a newcomer would question: an answer that cannot be parsed leaves the
//! sample unscored, with a word for the reason. It is never taken for wrong, right or a tie, and nothing is guessed
//! from keywords.

mod ask;
mod identity;
mod marks;
mod panel;
mod read;
mod rubric;
mod tool_calls;
mod winner;

use plugin_api::{export_plugin, register_judge};

register_judge!("match", "Whether a reply calls the same tools with equivalent arguments, by the model in the role `judge`", |settings| panel::Panel::load(settings, tool_calls::Match::load), {
    ask: text ["unclear", "all"] = "unclear", "which cases the model is asked about: those that a comparison without a model leaves open, or all";
    extra: text ["refuse", "allow"] = "refuse", "whether calls beyond the expected ones may pass when the model finds them harmless";
    panel: text = "", "models of the catalog, separated by commas, that judge in place of the one in the role `judge`; more than half of them must agree";
    repeat: integer = 1, "how often the model is asked about each case; the majority rules, and a tie of votes is unscored";
    pin: text ["flag", "strict"] = "flag", "what becomes of an answer by another version than the model that was asked: `flag` flags the verdict, `strict` leaves the case unscored";
    max_tokens: integer = 4096, "the most tokens of an answer, reasoning included";
    longest: integer = 60000, "a text with more characters is shown by its first and last half, and the verdict is flagged `shortened`";
    whole: flag = false, "leaves a case unscored that would be shortened";
});

register_judge!("winner", "Which of two replies is better, by the model in the role `judge`, asked in both orders", |settings| panel::Panel::load(settings, winner::Winner::load), {
    orders: integer = 2, "2 asks in both orders; 1 asks in one that the sample's hash chooses, and the verdict is flagged `unswapped`";
    panel: text = "", "models of the catalog, separated by commas, that judge in place of the one in the role `judge`; more than half of them must agree";
    repeat: integer = 1, "how often the model is asked in each order; the majority rules";
    pin: text ["flag", "strict"] = "flag", "what becomes of an answer by another version than the model that was asked: `flag` flags the verdict, `strict` leaves the case unscored";
    max_tokens: integer = 4096, "the most tokens of an answer, reasoning included";
    longest: integer = 60000, "a text with more characters is shown by its first and last half, and the verdict is flagged `shortened`";
    whole: flag = false, "leaves a case unscored that would be shortened";
});

register_judge!("rubric", "How good a reply is by a rubric, by the model in the role `judge`", |settings| panel::Panel::load(settings, rubric::Rubric::load), {
    rubric: path, "a file with the rubric; without one, whether the reply is right by the reference answer";
    highest: integer = 1, "the best score of the scale that begins at 0; the verdict is the score divided by it";
    panel: text = "", "models of the catalog, separated by commas, that judge in place of the one in the role `judge`; more than half of them must agree";
    repeat: integer = 1, "how often the model is asked about each case; the majority rules";
    pin: text ["flag", "strict"] = "flag", "what becomes of an answer by another version than the model that was asked: `flag` flags the verdict, `strict` leaves the case unscored";
    max_tokens: integer = 4096, "the most tokens of an answer, reasoning included";
    longest: integer = 60000, "a text with more characters is shown by its first and last half, and the verdict is flagged `shortened`";
    whole: flag = false, "leaves a case unscored that would be shortened";
});

export_plugin!();

/// The role that every protocol asks.
const ROLE: &str = "judge";

/// How many cases are shown at a time: enough to keep a remote judge busy.
const BATCH: u32 = 64;
