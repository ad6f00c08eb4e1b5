//! The questions behind a conversation: a dialog of its own that the gateway leads.

use super::conversation::{Closer, Conversation, Csat, DialogKind, OpenState};
use super::draft::Draft;
use super::entry::Change;
use super::people::{Person, Role};
use super::policy::{Answer, Policy, Question, Survey, text_event};
use serde::Deserialize;
use serde_json::value::RawValue;
use tieline_protocol::ids::{ConversationId, DialogId};

fn survey_of<'p>(conversation: &Conversation, policy: &'p Policy) -> Option<&'p Survey> {
    let details = &conversation.details;
    let survey = policy.survey.as_ref()?;
    (survey.queues.is_empty() || survey.queues.contains(&details.queue)).then_some(survey)
}

/// Whether questions follow when the MAIN dialog is closed: they are configured, an agent answered at some time, the
/// consumer's client knows further dialogs, and somebody is there to be asked.
pub(super) fn follows(conversation: &Conversation, by: Closer, policy: &Policy) -> bool {
    let details = &conversation.details;
    let knows_dialogs = details.features.iter().any(|feature| feature == "MULTI_DIALOG");
    let is_asked = !details.dialogs.iter().any(|dialog| dialog.kind == DialogKind::Survey);
    matches!(by, Closer::Consumer | Closer::Agent)
        && details.was_assigned
        && knows_dialogs
        && is_asked
        && survey_of(conversation, policy).is_some_and(|survey| !survey.questions.is_empty())
}

/// Opens the dialog and asks the first question.
pub(super) fn begin(id: &ConversationId, by: &Person, policy: &Policy, draft: &mut Draft<'_>) {
    let now = draft.now();
    let Some(conversation) = draft.conversation(id) else { return };
    let Some(survey) = survey_of(conversation, policy) else { return };
    let until = now.saturating_add(survey.time);
    let dialog = id.survey_dialog();
    let opened = Change::DialogOpened { dialog: dialog.clone(), kind: DialogKind::Survey, host: policy.bot.clone(), until };
    draft.change(id, by.clone(), vec![opened]);
    ask(id, &dialog, survey, 0, policy, draft);
}

fn ask(id: &ConversationId, dialog: &DialogId, survey: &Survey, number: usize, policy: &Policy, draft: &mut Draft<'_>) {
    let Some(question) = survey.questions.get(number) else { return };
    draft.change(id, policy.bot.clone(), vec![Change::Asked { dialog: dialog.clone(), question: question.id.clone() }]);
    draft.say(id, dialog, &policy.bot, Role::Agent, question.event(), Some(question.metadata()));
}

fn text_of(event: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        message: String,
    }
    serde_json::from_str::<Content>(event.get()).ok().map(|content| content.message)
}

/// The consumer has written into a survey's dialog: what is no answer is asked again, behind the last answer it ends.
pub(super) fn answered(id: &ConversationId, dialog: &DialogId, event: &RawValue, policy: &Policy, draft: &mut Draft<'_>) {
    let Some(conversation) = draft.conversation(id).cloned() else { return };
    let Some((_, found)) = conversation.dialog(dialog).filter(|(_, found)| found.kind == DialogKind::Survey) else { return };
    let asked = survey_of(&conversation, policy).and_then(|survey| {
        let number = survey.questions.iter().position(|question| Some(&question.id) == found.asked.as_ref())?;
        Some((survey, number, &survey.questions[number]))
    });
    // The question was taken out of the configuration while it was asked.
    let Some((survey, number, question)) = asked else {
        return draft.change(id, policy.bot.clone(), ended(&conversation, dialog, Closer::Agent, "Completed"));
    };
    let Some(answer) = text_of(event).and_then(|text| question.answer(&text)) else {
        return draft.say(id, dialog, &policy.bot, Role::Agent, question.event(), Some(question.metadata()));
    };
    let is_last = number + 1 >= survey.questions.len();
    draft.change(id, Person::Consumer(conversation.details.consumer.clone()), rated(&conversation, survey, answer, is_last));
    if !is_last {
        return ask(id, dialog, survey, number + 1, policy, draft);
    }
    if let Some(thanks) = &survey.thanks {
        draft.say(id, dialog, &policy.bot, Role::Agent, text_event(thanks), None);
    }
    let Some(conversation) = draft.conversation(id) else { return };
    let changes = ended(conversation, dialog, Closer::Agent, "Completed");
    draft.change(id, policy.bot.clone(), changes);
}

fn is_rating(question: &Question) -> bool {
    use super::policy::QuestionKind as K;
    matches!(question.kind, K::Csat | K::Resolved)
}

/// What an answer does to the conversation's rating.
fn rated(conversation: &Conversation, survey: &Survey, answer: Answer, is_last: bool) -> Vec<Change> {
    let known = conversation.details.csat.clone();
    let mut csat = known.clone().unwrap_or(Csat { rate: None, resolved: None, status: String::new() });
    match answer {
        Answer::Rating(rate) => csat.rate = Some(rate),
        Answer::Resolved(resolved) => csat.resolved = Some(resolved),
        Answer::Other => {}
    }
    if !survey.questions.iter().any(is_rating) {
        return Vec::new();
    }
    csat.status = if is_last { "FILLED" } else { "PARTIALLY_FILLED" }.into();
    if known.as_ref() == Some(&csat) { Vec::new() } else { vec![Change::Rated { csat }] }
}

/// The end of a survey, and with it of the conversation.
pub(super) fn ended(conversation: &Conversation, dialog: &DialogId, by: Closer, cause: &str) -> Vec<Change> {
    let details = &conversation.details;
    let closed = Change::DialogClosed { dialog: dialog.clone(), by, cause: Some(cause.into()) };
    let others = details.dialogs.iter().any(|other| other.id != *dialog && other.state == OpenState::Open);
    let all = (!others).then_some(Change::Closed { by: details.closed_by.unwrap_or(by) });
    std::iter::once(closed).chain(all).collect()
}
