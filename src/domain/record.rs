//! What programs write down about a conversation for those who took part: messages written elsewhere, who has it, what it is about,
//! how it was rated, and that it is to be erased.

use super::Millis;
use super::access::visible;
use super::command::{Command, FieldChange};
use super::conversation::{Closer, Conversation, Csat, OpenState, ParticipantState};
use super::draft::Draft;
use super::entry::{Change, Message};
use super::facts::{AttributeValue, LONGEST, LinkKind, MOST_ANSWERS, MOST_CHILDREN, MOST_RATINGS, MOST_TAGS, RatingGiven, Scale};
use super::origin::{Browser, Channel, Origin};
use super::outcome::Outcome;
use super::people::{Actor, Person, Role};
use super::refusal::Refusal;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConversationId, RatingId};

/// Longest name that a writer may give a message, or another system a booking, in characters.
const LONGEST_NAME: usize = 255;
/// Longest note, in characters.
const LONGEST_NOTE: usize = 10_000;

/// Refuses what is to be added where everything is to be erased.
pub(super) fn is_not_erased(conversation: &Conversation) -> Result<(), Refusal> {
    match conversation.details.anonymised {
        Some(_) => Err(Refusal::Anonymised),
        None => Ok(()),
    }
}

/// Writes a content down in somebody's name.
pub(super) fn record(actor: &Actor, command: &Command, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::Record { conversation, from, event, metadata, file, written, external } = command else { return Ok(Outcome::Updated) };
    let now = draft.now();
    let (id, dialog) = draft.meant(conversation, &conversation.main_dialog());
    let found = visible(actor, draft.conversation(&id))?;
    is_not_erased(found)?;
    let details = &found.details;
    let is_own = matches!(actor, Actor::Agent { .. }) && actor.person().as_ref() == Some(from);
    if !actor.is_manager() && !is_own {
        return Err(Refusal::NotPermitted("only a manager writes in another's name".into()));
    }
    let present = details.participant(from).filter(|participant| participant.state == ParticipantState::Active);
    let role = match (from, present) {
        (Person::Consumer(consumer), _) if *consumer != details.consumer => return Err(Refusal::NotAParticipant),
        (_, Some(participant)) => participant.role,
        (Person::Consumer(_), None) => Role::Consumer,
        // Who looks in for a manager is no participant, and needs not become one.
        (Person::Agent { .. }, None) if actor.is_manager() => Role::Manager,
        (Person::Agent { .. }, None) => return Err(Refusal::NotAParticipant),
    };
    if !details.main_is_open() {
        return Err(Refusal::DialogClosed);
    }
    if external.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > LONGEST_NAME) {
        return Err(Refusal::Invalid(format!("an external id has 1 to {LONGEST_NAME} characters").into()));
    }
    let (sequence, app, at) = (found.next[0], details.app.clone(), found.event_time(now));
    let written = past(*written, now)?;
    if let Some(name) = external.as_ref().filter(|name| draft.has_message(&id, name)) {
        return Err(Refusal::Duplicate(format!("A message with the external id {name}").into()));
    }
    draft.publish(Message {
        conversation: id,
        dialog,
        sequence,
        class: EventClass::Content,
        from: from.clone(),
        role,
        whisper: false,
        begins: false,
        event: event.clone(),
        metadata: metadata.clone(),
        encoded_metadata: None,
        client: None,
        file: file.clone(),
        app,
        written,
        external: external.clone(),
    });
    Ok(Outcome::Recorded { sequence, at: written.unwrap_or(at) })
}

/// How far a caller's clock may be ahead of ours.
const AHEAD: Millis = 60_000;

/// A time that is said to have been.
fn past(at: Option<Millis>, now: Millis) -> Result<Option<Millis>, Refusal> {
    match at {
        Some(at) if at > now.saturating_add(AHEAD) => {
            Err(Refusal::Invalid("what was written elsewhere was not written in the future".into()))
        }
        at => Ok(at.map(|at| at.min(now))),
    }
}

/// Refuses words about a conversation that are too long.
pub(super) fn fits(origin: &Origin) -> Result<(), Refusal> {
    let Origin { channel, subject, language, browser, from, to, endpoint, external, .. } = origin;
    let name = match channel {
        Channel::Other(name) => Some(name),
        _ => None,
    };
    let browsers = browser.iter().flat_map(|browser| {
        let Browser { name, version, address, page } = browser;
        [Some(name), version.as_ref(), address.as_ref(), page.as_ref()]
    });
    let all = [name, subject.as_ref(), language.as_ref(), from.as_ref(), to.as_ref(), endpoint.as_ref(), external.as_ref()];
    are_short(all.into_iter().chain(browsers).flatten())
}

fn are_short<'t>(texts: impl IntoIterator<Item = &'t String>) -> Result<(), Refusal> {
    match texts.into_iter().any(|text| text.chars().count() > LONGEST) {
        true => Err(Refusal::Invalid(format!("a text about a conversation has at most {LONGEST} characters").into())),
        false => Ok(()),
    }
}

/// Most bytes of all that is known of a conversation beside what is said in it, as JSON: it is written with each of its states.
const LARGEST_FACTS: usize = 64 * 1024;

/// Refuses what would make of a conversation more than is written easily.
pub(super) fn is_not_too_much(made: &[Change], after: &Conversation) -> Result<(), Refusal> {
    let grows = |change: &Change| {
        matches!(
            change,
            Change::AttributesSet { .. }
                | Change::RatingOffered { .. }
                | Change::RatingAnswered { .. }
                | Change::Answered { .. }
                | Change::Booked { .. }
        )
    };
    if made.iter().any(grows) && serde_json::to_string(after.details.facts()).map_or(0, |text| text.len()) > LARGEST_FACTS {
        return Err(Refusal::NotNow(format!("what is known of a conversation has at most {LARGEST_FACTS} bytes").into()));
    }
    Ok(())
}

/// Links a conversation to another. A tree has two levels: what belongs to another has nothing of its own.
pub(super) fn link(
    actor: &Actor,
    (child, parent): (&ConversationId, &ConversationId),
    kind: LinkKind,
    was: Option<&ConversationId>,
    draft: &mut Draft<'_>,
) -> Result<Outcome, Refusal> {
    let Some(by) = actor.person().filter(Person::is_agent) else {
        return Err(Refusal::NotPermitted("only the brand's side links conversations".into()));
    };
    // Either may have been found under its name instead of opened.
    let (parent, _) = draft.meant(parent, &parent.main_dialog());
    let (child, _) = draft.meant(child, &child.main_dialog());
    let above = visible(actor, draft.conversation(&parent))?.clone();
    let below = visible(actor, draft.conversation(&child))?.clone();
    let joined = |conversation: &Conversation| actor.is_manager() || conversation.details.participant(&by).is_some();
    if !joined(&above) || !joined(&below) {
        return Err(Refusal::NotAParticipant);
    }
    is_not_erased(&above)?;
    is_not_erased(&below)?;
    match &below.details.facts().parent {
        Some(known) if known.parent == parent && known.kind == kind => return Ok(Outcome::Updated),
        // One that was kept long enough is no more, and leads nowhere.
        Some(known) if was == Some(&known.parent) && draft.conversation(&known.parent).is_none() => {}
        Some(_) => return Err(Refusal::NotNow("Conversation is linked to another already".into())),
        None => {}
    }
    if child == parent {
        return Err(Refusal::Invalid("a conversation cannot be linked to itself".into()));
    }
    if above.details.facts().parent.is_some() || !below.details.facts().children.is_empty() {
        return Err(Refusal::NotNow("a linked conversation has no linked conversations of its own".into()));
    }
    if above.details.facts().children.len() >= MOST_CHILDREN {
        return Err(Refusal::NotNow(format!("at most {MOST_CHILDREN} conversations are linked to one").into()));
    }
    let (parents, childs) = (above.details.number, below.details.number);
    draft.change(&child, by.clone(), vec![Change::LinkedToParent { parent: parent.clone(), number: parents, kind }]);
    draft.change(&parent, by, vec![Change::LinkedFromChild { child, number: childs, kind }]);
    Ok(Outcome::Updated)
}

/// What a change of the brand's side becomes; nothing, if it is so already.
pub(super) fn field_change(conversation: &Conversation, field: &FieldChange, closer: Closer, now: Millis) -> Result<Vec<Change>, Refusal> {
    let details = &conversation.details;
    let facts = details.facts();
    Ok(match field {
        FieldChange::AddNote { id, note, author, written } => {
            let is_fine = (1..=LONGEST_NOTE).contains(&note.chars().count()) && author.is_agent();
            if !is_fine {
                return Err(Refusal::Invalid(format!("a note has 1 to {LONGEST_NOTE} characters, and an agent who wrote it").into()));
            }
            let written = past(*written, now)?;
            vec![Change::Noted { note: note.clone(), id: Some(id.clone()), author: Some(author.clone()), written }]
        }
        FieldChange::Reopen => reopen(conversation),
        FieldChange::Claim { person, takes_over, since } => {
            let from = details.assignee().map(|assignee| assignee.person.clone());
            match &from {
                _ if !person.is_agent() => return Err(Refusal::Invalid("only an agent takes a conversation".into())),
                Some(other) if other != person && !takes_over => return Err(Refusal::Taken),
                Some(same) if same == person => Vec::new(),
                _ => vec![Change::Claimed { person: person.clone(), from, since: past(*since, now)? }],
            }
        }
        FieldChange::Transfer(queue) => {
            let both = details.assignee().into_iter().chain(details.suggested()).filter(|_| details.main_is_open());
            let left = both.map(|one| Change::Left { person: one.person.clone(), role: one.active_role() });
            reopen(conversation).into_iter().chain(left).chain([Change::QueueSet { queue: queue.clone(), asks: true }]).collect()
        }
        FieldChange::Tag(tag) if facts.tags.contains(tag) => Vec::new(),
        FieldChange::Tag(_) if facts.tags.len() >= MOST_TAGS => {
            return Err(Refusal::NotNow(format!("a conversation has at most {MOST_TAGS} tags").into()));
        }
        FieldChange::Tag(tag) => vec![Change::Tagged { tag: tag.clone() }],
        FieldChange::Untag(tag) if facts.tags.contains(tag) => vec![Change::Untagged { tag: tag.clone() }],
        FieldChange::SetAttributes(values) => {
            for value in values.iter().filter_map(|(_, value)| value.as_ref()) {
                match value {
                    AttributeValue::Text(text) => are_short([text])?,
                    AttributeValue::Choices(choices) => are_short(choices)?,
                }
            }
            let news = values.iter().filter(|(id, value)| facts.attributes.get(id) != value.as_ref()).cloned().collect::<Vec<_>>();
            if news.is_empty() { Vec::new() } else { vec![Change::AttributesSet { values: news }] }
        }
        FieldChange::OfferRating(_) if facts.ratings.len() >= MOST_RATINGS => {
            return Err(Refusal::NotNow(format!("a conversation has at most {MOST_RATINGS} ratings").into()));
        }
        FieldChange::OfferRating(rating) if facts.ratings.iter().any(|known| known.id == rating.id) => Vec::new(),
        FieldChange::OfferRating(rating) if rating.given.is_some() => {
            return Err(Refusal::Invalid("a rating is offered first, and answered then".into()));
        }
        FieldChange::OfferRating(rating) => match &rating.by {
            Person::Consumer(by) if *by == details.consumer => vec![Change::RatingOffered { rating: Box::new(rating.clone()) }],
            _ => return Err(Refusal::Invalid("only the conversation's own consumer is asked for a rating".into())),
        },
        FieldChange::SetPlace(place, id) if facts.at(*place) == id.as_ref() => Vec::new(),
        FieldChange::SetPlace(place, id) => vec![Change::PlaceSet { place: *place, id: id.clone() }],
        FieldChange::Answer(answer) => {
            let is_new = facts.answers.iter().all(|known| known.id != answer.id);
            if is_new && facts.answers.len() >= MOST_ANSWERS {
                return Err(Refusal::NotNow(format!("a conversation has at most {MOST_ANSWERS} answers").into()));
            }
            are_short([&answer.label, &answer.question, &answer.value])?;
            vec![Change::Answered { answer: answer.clone() }]
        }
        FieldChange::Book { booking, .. } if booking.is_empty() || booking.chars().count() > LONGEST_NAME => {
            return Err(Refusal::Invalid(format!("a booking's name has 1 to {LONGEST_NAME} characters").into()));
        }
        FieldChange::Book { booking, stands } => match facts.bookings.contains(booking) {
            known if known == *stands => Vec::new(),
            false if facts.bookings.len() >= MOST_ANSWERS => {
                return Err(Refusal::NotNow(format!("a conversation has at most {MOST_ANSWERS} bookings").into()));
            }
            _ => vec![Change::Booked { booking: booking.clone(), stands: *stands }],
        },
        FieldChange::Anonymise { request, closes } => match details.stage {
            OpenState::Closed => vec![Change::Anonymised { request: request.clone() }],
            OpenState::Open if *closes => vec![Change::Closed { by: closer }, Change::Anonymised { request: request.clone() }],
            OpenState::Open => return Err(Refusal::NotNow("only a closed conversation can be anonymised; close it first".into())),
        },
        FieldChange::AnonymiseMessage { request, dialog, sequence, files } => match conversation.next_sequence(dialog) {
            Some(next) if *sequence < next => {
                vec![Change::MessageAnonymised { request: request.clone(), dialog: dialog.clone(), sequence: *sequence, files: *files }]
            }
            _ => return Err(Refusal::NobodyThere("Message".into())),
        },
        _ => Vec::new(),
    })
}

fn reopen(conversation: &Conversation) -> Vec<Change> {
    if conversation.details.main_is_open() { Vec::new() } else { vec![Change::Reopened] }
}

/// The consumer's answer to the question for a rating. What is said on a scale from 1 to 5 is the conversation's rating from then on.
pub(super) fn answer_rating(conversation: &Conversation, id: &RatingId, given: &RatingGiven) -> Result<Vec<Change>, Refusal> {
    let Some(rating) = conversation.details.facts().ratings.iter().find(|rating| rating.id == *id) else {
        return Err(Refusal::NobodyThere("Rating".into()));
    };
    if !rating.scale.has(given.score) {
        return Err(Refusal::Invalid("the score is not on the scale of the rating that was offered".into()));
    }
    are_short(&given.comment)?;
    match &rating.given {
        Some(known) if known.score == given.score && known.comment == given.comment => return Ok(Vec::new()),
        Some(_) => return Err(Refusal::NotNow("the rating was given already".into())),
        None => {}
    }
    let answered = Change::RatingAnswered { rating: id.clone(), given: given.clone() };
    let csat = (rating.scale == Scale::Csat).then(|| {
        let resolved = conversation.details.csat.as_ref().and_then(|csat| csat.resolved);
        Change::Rated { csat: Csat { rate: Some(given.score), resolved, status: "FILLED".into() } }
    });
    Ok([answered].into_iter().chain(csat).collect())
}
