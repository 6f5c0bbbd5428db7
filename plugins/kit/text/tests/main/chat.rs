//! Prompts to tokens: what a template may do, what remains of a begun answer, how options are tokenised.

use plugin_api::serde_json::json;
use plugin_api::{Code, Lesson, Message, Part, Prompt, Role, Turn};
use std::path::Path;
use text::{Chat, ChatTemplate};

/// The tokenizer and template of the Qwen3 plugin's demo: bytes, a few merges, and the marks of turns.
fn demo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/qwen3/demo")
}

fn chat() -> Chat {
    Chat::from_folder(&demo()).unwrap()
}

#[track_caller]
fn renders(source: &str, expected: &str) {
    let messages = [
        json!({ "role": "user", "content": " Hi " }),
        json!({ "role": "assistant", "content": "<b>é" }),
    ];
    let specials = [("bos_token".to_owned(), json!("<s>"))].into_iter().collect();
    let template = ChatTemplate::new(source.to_owned(), specials).unwrap();
    let extra = [("enable_thinking".to_owned(), json!(false))].into_iter().collect();
    let text = template.render(&messages, true, &extra);
    assert_eq!(
        text.unwrap_or_else(|error| error.to_string()),
        expected,
        "template: {source}"
    );
}

#[test]
fn templates_do_what_the_reference_does() {
    renders(
        "{{ bos_token }}{{ messages[0].content }}|{{ messages[0]['content'] | trim }}",
        "<s> Hi |Hi",
    );
    renders(
        "{% for m in messages %}\n  {% if loop.first %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n",
        "user\n",
    );
    renders("{{ messages[::-1][0].content.split('>')[-1] }}", "é");
    renders(
        "{{ messages[1].content.startswith('<b') }}, {{ none }}, {{ missing }}",
        "True, None, ",
    );
    renders(
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "2",
    );
    renders(
        "{% if enable_thinking is defined and enable_thinking is false %}off{% endif %}",
        "off",
    );
    renders(
        "{{ messages[1] | tojson }}",
        r#"{"role": "assistant", "content": "<b>é"}"#,
    );
    renders(
        "{{ {'b': 1, 'a': [true, none]} | tojson(indent=1) }}",
        "{\n \"b\": 1,\n \"a\": [\n  true,\n  null\n ]\n}",
    );
    renders(
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
        "user",
    );
    renders(
        "{{ strftime_now('%') }}{% if tools %}tools{% endif %}{{ 'gen' if add_generation_prompt }}",
        "%gen",
    );
}

#[test]
fn texts_have_the_methods_of_python() {
    let methods = |expression: &str, expected: &str| renders(&format!("{{{{ {expression} | tojson }}}}"), expected);
    methods("'a-b-c'.split('-', maxsplit=1)", r#"["a", "b-c"]"#);
    methods("'a-b-c'.split('-', 1)", r#"["a", "b-c"]"#);
    methods("' a  b '.split()", r#"["a", "b"]"#);
    methods("'a-b-c'.rsplit('-', 1)", r#"["a-b", "c"]"#);
    methods("'-a'.rsplit('-')", r#"["", "a"]"#);
    methods("' a  b c '.rsplit(maxsplit=1)", r#"[" a  b", "c"]"#);
    methods("' a  b '.rsplit()", r#"["a", "b"]"#);
    methods("'<think>é'.removeprefix('<think>')", r#""é""#);
    methods("'aba'.removesuffix('b')", r#""aba""#);
    methods("'a=b=c'.partition('=')", r#"["a", "=", "b=c"]"#);
    methods("'abc'.rpartition('=')", r#"["", "", "abc"]"#);
    methods("messages[0].copy()", r#"{"role": "user", "content": " Hi "}"#);
}

#[test]
fn marks_for_training_leave_no_trace() {
    renders(
        "a\n{% generation %}\n{{ bos_token }}\n{%- endgeneration -%}\n b",
        "a\n<s>b",
    );
}

#[test]
fn a_template_that_breaks_the_engine_is_an_error() {
    renders(
        "{{ ''[::-1] }}",
        "the chat template cannot render these messages: the template engine failed on it",
    );
}

#[test]
fn a_template_that_refuses_or_never_ends_is_an_error() {
    let cannot = "the chat template cannot render these messages: ";
    renders(
        "\n{{ raise_exception('roles must alternate') }}",
        &format!("{cannot}roles must alternate (line 2 of the template)"),
    );
    let endless = "{% for a in range(9000) %}{% for b in range(9000) %}{{ b }}{% endfor %}{% endfor %}";
    renders(
        endless,
        &format!("{cannot}engine ran out of fuel (line 1 of the template)"),
    );
    assert!(ChatTemplate::new("{% for %}".to_owned(), Default::default()).is_err());
}

#[test]
fn special_tokens_are_what_the_template_spells_and_no_more() {
    let tokens = chat().encode(&Prompt::new([Message::user("Hi")])).unwrap();
    assert_eq!(tokens.text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    let start = chat().tokenizer().id("<|im_start|>").unwrap();
    assert_eq!(tokens.ids.iter().filter(|id| **id == start).count(), 2);
}

#[test]
fn templates_are_found_where_checkpoints_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, content: &str| std::fs::write(folder.path().join(file), content).unwrap();
    let says = |expected: Option<&str>| {
        let template = ChatTemplate::from_folder(folder.path()).unwrap();
        let text = template.map(|template| template.render(&[], true, &Default::default()).unwrap());
        assert_eq!(text.as_deref(), expected);
    };
    says(None);
    let named = json!([{ "name": "tools", "template": "t" }, { "name": "default", "template": "list{{ bos_token }}" }]);
    write(
        "tokenizer_config.json",
        &json!({ "chat_template": named, "bos_token": { "content": "<s>" } }).to_string(),
    );
    says(Some("list<s>"));
    write("chat_template.json", r#"{"chat_template": "json"}"#);
    says(Some("json"));
    write("chat_template.jinja", "jinja{{ bos_token }}");
    says(Some("jinja<s>"));
}

#[test]
fn a_begun_answer_stays_open() {
    let check = |begun: &str, expected: &str| {
        let prompt = Prompt::new([Message::user("Which?"), Message::assistant(begun)]);
        let text = chat().encode(&prompt).unwrap().text;
        assert_eq!(
            text,
            format!("<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n{expected}")
        );
    };
    // The template puts an empty reasoning before an answer, as before a finished one.
    check("It is", "<think>\n\n</think>\n\nIt is");
    check("It is ", "<think>\n\n</think>\n\nIt is ");
    check("<think>\nHm\n</think>\n\nIt", "<think>\nHm\n</think>\n\nIt");
    check("", "");
}

#[test]
fn a_template_that_drops_all_that_is_said_is_an_error() {
    let says = |source: &str, words: &str| {
        let template = ChatTemplate::new(source.to_owned(), Default::default()).unwrap();
        let prompt = Prompt::new([Message::user(words)]);
        Chat::of_bytes()
            .unwrap()
            .with_template(template)
            .encode(&prompt)
            .map(|prompt| prompt.text)
    };
    let error = says("{% if false %}{{ messages }}{% endif %}", "Hi").unwrap_err();
    let told = "the chat template cannot render these messages: it writes nothing at all for them";
    assert_eq!(error.to_string(), told);
    assert_eq!(says("{{ messages[0].content }}", "").unwrap(), "");
    assert_eq!(says("{{ messages[0].content }}", "Hi").unwrap(), "Hi");
}

#[test]
fn options_are_cut_together_with_their_context() {
    let check = |prompt: Prompt, option: &str, context: &str, rest: &str| {
        let chat = chat();
        let choices = chat.encode_choices(&prompt, &[option.to_owned()]).unwrap();
        let decode = |ids: &[u32]| {
            ids.iter()
                .map(|id| chat.tokenizer().decode(&[*id]).unwrap())
                .collect::<String>()
        };
        assert_eq!(
            (decode(&choices.context).as_str(), decode(&choices.options[0]).as_str()),
            (context, rest)
        );
    };
    check(Prompt::plain("The answer is"), " A", "The answer is", " A");
    check(Prompt::plain("The answer is \n"), "A", "The answer is", " \nA");
    check(Prompt::plain(""), "A", "", "A");
    // The line break at the end of a template is not a blank of the author.
    check(Prompt::new([Message::user("Q ")]), "A", "user\nQ \nassistant\n", "A");
    let begun = Prompt::new([Message::user("Q"), Message::assistant("It is ")]);
    check(begun, "A", "user\nQ\nassistant\n<think>\n\n</think>\n\nIt is", " A");
}

#[test]
fn an_empty_context_is_the_token_that_texts_begin_or_end_with() {
    let chat = chat();
    let choices = chat.encode_choices(&Prompt::plain(""), &["A".to_owned()]).unwrap();
    assert_eq!(choices.context, [chat.tokenizer().id("<|im_end|>").unwrap()]);
}

#[test]
fn what_is_learnt_is_what_the_model_would_have_to_say() {
    let check = |turns: &[(Role, &str, bool)], plain: bool, expected: &[&str]| {
        let turn = |&(role, text, learn): &(Role, &str, bool)| Turn {
            message: Message::text(role, text),
            learn,
        };
        let lesson = Lesson {
            turns: turns.iter().map(turn).collect(),
            plain,
            ..Lesson::default()
        };
        let chat = chat();
        let tokens = chat.encode_lesson(&lesson).unwrap();
        let mut learnt = vec![Vec::new()];
        for (id, learn) in tokens.ids.iter().zip(&tokens.learn) {
            match learn {
                true => learnt.last_mut().unwrap().push(chat.tokenizer().piece(*id).unwrap()),
                false => learnt.push(Vec::new()),
            }
        }
        let learnt: Vec<String> = learnt
            .iter()
            .filter(|run| !run.is_empty())
            .map(|run| run.concat())
            .collect();
        assert_eq!(learnt, expected);
    };
    let (user, assistant) = (Role::User, Role::Assistant);
    check(
        &[(user, "Hi", false), (assistant, "Yes", true)],
        false,
        &["Yes<|im_end|>"],
    );
    check(
        &[
            (user, "Hi", false),
            (assistant, "One", true),
            (user, "One", false),
            (assistant, "Two", true),
        ],
        false,
        &["One<|im_end|>", "Two<|im_end|>"],
    );
    // Letters of the template itself are not the answer.
    for word in ["a", "i", "k", "t"] {
        check(
            &[(user, "Hi", false), (assistant, word, true)],
            false,
            &[&format!("{word}<|im_end|>")],
        );
    }
    check(&[(user, "2+2=", false), (assistant, "4", true)], true, &["4"]);
    check(&[(user, "Hi", false), (assistant, "Yes", false)], false, &[]);
}

#[test]
fn a_part_or_role_of_a_newer_version_is_refused() {
    let prompt = Prompt::new([Message::text(Role::Unknown, "x")]);
    assert_eq!(chat().encode(&prompt).unwrap_err().code, Code::UNSUPPORTED);
}

#[test]
fn bytes_are_tokens_where_there_is_no_checkpoint() {
    let chat = Chat::of_bytes().unwrap();
    let tokens = |text: &str| chat.encode(&Prompt::plain(text)).unwrap().ids;
    assert_eq!(tokens("abcd efgh").len(), 8, "a blank goes with the letter behind it");
    assert_eq!(tokens("é").len(), 2);
    for text in ["abcd efgh", "é\n\t, 🦀 Q"] {
        assert_eq!(chat.tokenizer().decode(&tokens(text)).unwrap(), text);
    }
    assert!(chat.tokenizer().check_rows(308).is_ok());
    assert!(chat.tokenizer().check_rows(307).is_err());
}

#[test]
fn a_clip_is_one_token_among_bytes() {
    let chat = Chat::of_bytes_and_clips(400).unwrap();
    let mut message = Message::user("say");
    message.parts.insert(0, Part::clip(0));
    let tokens = |prompt: Prompt| chat.encode(&prompt).unwrap().ids;
    let spoken = tokens(Prompt::new([message.clone()]));
    assert_eq!(spoken[..2], [0, 400], "a text begins with a token of its own");
    assert_eq!(chat.tokenizer().decode(&spoken[2..]).unwrap(), "say");
    let plain = Prompt {
        plain: true,
        ..Prompt::new([message])
    };
    assert_eq!(tokens(plain), spoken);
    assert_eq!(tokens(Prompt::new([Message::user("say")]))[1..], spoken[2..]);
}
