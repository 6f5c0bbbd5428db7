//! @NAME@: say here how it judges, and what a newcomer would question.

use plugin_api::{export_plugin, register_judge, Call, Case, Judge, JudgeCard, Result, Verdict};

struct Equal {
    capitals: bool,
}

impl Equal {
    fn plain(&self, text: &str) -> String {
        if self.capitals { text.trim().to_owned() } else { text.trim().to_lowercase() }
    }
}

impl Judge for Equal {
    fn card(&self) -> JudgeCard {
        JudgeCard::new("@NAME@", "1") // a change that can move a verdict is a new version
    }

    fn judge(&self, case: &Case, _call: &mut Call) -> Result<Verdict> {
        let target = &case.sample.target;
        if target.is_null() {
            return Ok(Verdict::unscored("the sample has no target"));
        }
        let target = target.as_str().map_or_else(|| target.to_string(), str::to_owned);
        let equal = self.plain(&case.reply.text) == self.plain(&target);
        Ok(Verdict::of(equal, if equal { "equal to the target" } else { "not equal to the target" }))
    }
}

register_judge!("@NAME@", "Right when equal to the target", |settings| Ok(Equal { capitals: settings.need("capitals")? }), {
    capitals: flag = false, "whether capitals matter";
});
export_plugin!();
