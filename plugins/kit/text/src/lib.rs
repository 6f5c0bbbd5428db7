//! Text to tokens and back: tokenizers, chat templates, and reading answers while they are generated.
//!
//! It uses no tensors, so plugins with other backends can use it.
//!
//! The decision a newcomer would question: a rendered chat template is tokenised *without* the tokenizer's own special
//! tokens. The template already spells them; Gemma's prompts, for example, would begin with two `<bos>`.
//!
//! ```
//! use plugin_api::serde_json::json;
//! use text::ChatTemplate;
//!
//! let source = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}";
//! let template = ChatTemplate::new(source.to_owned(), Default::default())?;
//! let messages = [json!({ "role": "user", "content": " Hello " })];
//! assert_eq!(template.render(&messages, true, &Default::default()).unwrap(), "[user] Hello\n");
//! # Ok::<(), String>(())
//! ```

mod chat;
mod clock;
mod cuts;
mod error;
mod from_gguf;
mod lesson;
mod methods;
mod python_json;
mod reader;
mod sentencepiece;
mod stream;
mod stretches;
mod template;
mod tokenizer;

pub use chat::{Chat, Choices, Pieces};
pub use error::{Error, Result};
pub use reader::{Answer, Reader, Reading};
pub use stream::Detokenizer;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
