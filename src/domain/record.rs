//! What programs write down about a conversation for those who took part: messages written elsewhere, who has it, what it is about,
//! how it was rated, and that it is to be erased.

use super::access::visible;
use super::command::{Command, FieldChange};
use super::conversation::{Closer, Conversation, OpenState};
use super::draft::Draft;
use super::entry::{Change, Message};
use super::facts::{LONGEST, LinkKind, MOST_ANSWERS, MOST_CHILDREN, MOST_RATINGS, MOST_TAGS, RatingGiven};
use super::outcome::Outcome;
use super::people::{Actor, Person, Role};
use super::refusal::Refusal;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConversationId, RatingId};

/// Longest name that a writer may give a message, in characters.
const LONGEST_NAME: usize = 255;

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
    if !actor.is_manager() && actor.person().as_ref() != Some(from) {
        return Err(Refusal::NotPermitted("only a manager writes in another's name".into()));
    }
    let role = match (from, details.participant(from)) {
        (Person::Consumer(consumer), _) if *consumer != details.consumer => return Err(Refusal::NotAParticipant),
        (_, Some(participant)) => participant.role,
        (Person::Consumer(_), None) => Role::Consumer,
        // Who only looks in is no participant, and needs not become one.
        (Person::Agent { .. }, None) => Role::Manager,
    };
    if !details.main_is_open() {
        return Err(Refusal::DialogClosed);
    }
    if external.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > LONGEST_NAME) {
        return Err(Refusal::Invalid(format!("an external id has 1 to {LONGEST_NAME} characters").into()));
    }
    let (sequence, app, at) = (found.next[0], details.app.clone(), found.event_time(now));
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
        event: event.clone(),
        metadata: metadata.clone(),
        encoded_metadata: None,
        client: None,
        file: file.clone(),
        app,
        written: *written,
        external: external.clone(),
    });
    Ok(Outcome::Recorded { sequence, at: written.unwrap_or(at) })
}

/// Links a conversation to another. A tree has two levels: what belongs to another has nothing of its own.
pub(super) fn link(
    actor: &Actor,
    child: &ConversationId,
    parent: &ConversationId,
    kind: LinkKind,
    draft: &mut Draft<'_>,
) -> Result<Outcome, Refusal> {
    let Some(by) = actor.person().filter(Person::is_agent) else {
        return Err(Refusal::NotPermitted("only the brand's side links conversations".into()));
    };
    let above = visible(actor, draft.conversation(parent))?.clone();
    let below = visible(actor, draft.conversation(child))?.clone();
    let joined = |conversation: &Conversation| actor.is_manager() || conversation.details.participant(&by).is_some();
    if !joined(&above) || !joined(&below) {
        return Err(Refusal::NotAParticipant);
    }
    is_not_erased(&above)?;
    is_not_erased(&below)?;
    match &below.details.facts().parent {
        Some(known) if known.parent == *parent && known.kind == kind => return Ok(Outcome::Updated),
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
    draft.change(child, by.clone(), vec![Change::LinkedToParent { parent: parent.clone(), number: parents, kind }]);
    draft.change(parent, by, vec![Change::LinkedFromChild { child: child.clone(), number: childs, kind }]);
    Ok(Outcome::Updated)
}

/// What a change of the brand's side becomes; nothing, if it is so already.
pub(super) fn field_change(conversation: &Conversation, field: &FieldChange, closer: Closer) -> Result<Vec<Change>, Refusal> {
    let details = &conversation.details;
    let facts = details.facts();
    Ok(match field {
        FieldChange::AddNote { id, note, author, written } => {
            let is_fine = !note.is_empty() && author.is_agent();
            if !is_fine {
                return Err(Refusal::Invalid("a note has a text, and an agent who wrote it".into()));
            }
            vec![Change::Noted { note: note.clone(), id: Some(id.clone()), author: Some(author.clone()), written: *written }]
        }
        FieldChange::Reopen => reopen(conversation),
        FieldChange::Claim { person, takes_over, since } => {
            let from = details.assignee().map(|assignee| assignee.person.clone());
            match &from {
                _ if !person.is_agent() => return Err(Refusal::Invalid("only an agent takes a conversation".into())),
                Some(other) if other != person && !takes_over => return Err(Refusal::Taken),
                Some(same) if same == person => Vec::new(),
                _ => vec![Change::Claimed { person: person.clone(), from, since: *since }],
            }
        }
        FieldChange::Transfer(queue) => {
            let left = details.assignee().filter(|_| details.main_is_open());
            let left = left.map(|assignee| Change::Left { person: assignee.person.clone(), role: Some(assignee.role) });
            reopen(conversation).into_iter().chain(left).chain([Change::QueueSet { queue: queue.clone() }]).collect()
        }
        FieldChange::Tag(tag) if facts.tags.contains(tag) => Vec::new(),
        FieldChange::Tag(_) if facts.tags.len() >= MOST_TAGS => {
            return Err(Refusal::NotNow(format!("a conversation has at most {MOST_TAGS} tags").into()));
        }
        FieldChange::Tag(tag) => vec![Change::Tagged { tag: tag.clone() }],
        FieldChange::Untag(tag) if facts.tags.contains(tag) => vec![Change::Untagged { tag: tag.clone() }],
        FieldChange::SetAttributes(values) => {
            let news = values.iter().filter(|(id, value)| facts.attributes.get(id) != value.as_ref()).cloned().collect::<Vec<_>>();
            if news.is_empty() { Vec::new() } else { vec![Change::AttributesSet { values: news }] }
        }
        FieldChange::OfferRating(_) if facts.ratings.len() >= MOST_RATINGS => {
            return Err(Refusal::NotNow(format!("a conversation has at most {MOST_RATINGS} ratings").into()));
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
            if [&answer.label, &answer.question, &answer.value].iter().any(|text| text.chars().count() > LONGEST) {
                return Err(Refusal::Invalid(format!("a text of an answer has at most {LONGEST} characters").into()));
            }
            vec![Change::Answered { answer: answer.clone() }]
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
    use super::facts::Scale;
    let Some(rating) = conversation.details.facts().ratings.iter().find(|rating| rating.id == *id) else {
        return Err(Refusal::NobodyThere("Rating".into()));
    };
    if !rating.scale.has(given.score) {
        return Err(Refusal::Invalid("the score is not on the scale of the rating that was offered".into()));
    }
    if given.comment.as_ref().is_some_and(|comment| comment.chars().count() > LONGEST) {
        return Err(Refusal::Invalid(format!("a comment has at most {LONGEST} characters").into()));
    }
    match &rating.given {
        Some(known) if known.score == given.score && known.comment == given.comment => return Ok(Vec::new()),
        Some(_) => return Err(Refusal::NotNow("the rating was given already".into())),
        None => {}
    }
    let answered = Change::RatingAnswered { rating: id.clone(), given: given.clone() };
    let csat = (rating.scale == Scale::Csat).then(|| {
        let resolved = conversation.details.csat.as_ref().and_then(|csat| csat.resolved);
        Change::Rated { csat: super::conversation::Csat { rate: Some(given.score), resolved, status: "FILLED".into() } }
    });
    Ok([answered].into_iter().chain(csat).collect())
}
