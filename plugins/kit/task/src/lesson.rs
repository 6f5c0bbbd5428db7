use plugin_api::{Lesson, Message, Turn};

/// A question, which is not learnt, and an answer, which is, in the model's chat template.
pub fn lesson(id: &str, question: Message, answer: impl Into<String>) -> Lesson {
    let turn = |message, learn| Turn { message, learn };
    Lesson {
        id: id.to_owned(),
        turns: vec![turn(question, false), turn(Message::assistant(answer.into()), true)],
        ..Lesson::default()
    }
}
