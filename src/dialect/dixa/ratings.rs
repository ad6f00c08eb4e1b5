//! Ratings: an end user is asked, and answers. What it said of itself on the native surface is a rating, too.

use super::caller::{Caller, person_uuid};
use super::conversation::{Named, Which, channel, channel_name};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Repeat, Stamp, When, at_most};
use super::{Answer, Data};
use crate::dialect::ids::consumer_uuid;
use crate::domain::{Change as Changed, Conversation, Entry, FieldChange, Millis, Person, Rating as Offered, RatingGiven, Scale, Sight};
use crate::gateway::derived_uuid;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::ids::RatingId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest comment, in characters.
const LONGEST: usize = 4_000;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
enum RatingType {
    /// 1 to 5.
    Csat,
    /// 0 or 1.
    ThumbsUpOrDown,
    /// 0 to 10.
    Nps,
}

impl From<RatingType> for Scale {
    fn from(kind: RatingType) -> Self {
        match kind {
            RatingType::Csat => Self::Csat,
            RatingType::ThumbsUpOrDown => Self::Thumbs,
            RatingType::Nps => Self::Nps,
        }
    }
}

impl From<Scale> for RatingType {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Csat => Self::Csat,
            Scale::Thumbs => Self::ThumbsUpOrDown,
            Scale::Nps => Self::Nps,
        }
    }
}

/// A question for a rating.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RatingOffer)]
#[serde(rename_all = "camelCase")]
struct Offer {
    /// Who is asked: the conversation's end user. So it is if nobody is named.
    user_id: Option<Uuid>,
    /// Of whom; without: of who has the conversation.
    agent_id: Option<Uuid>,
    rating_type: RatingType,
    /// When it was asked; without: now.
    offered_at: Option<When>,
}

/// A question for a rating that was put.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OfferedRating)]
#[serde(rename_all = "camelCase")]
struct Put {
    id: String,
    user_id: Uuid,
    agent_id: Option<Uuid>,
    rating_type: RatingType,
    offered_at: Stamp,
}

/// What an end user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RatingResult)]
#[serde(tag = "_type")]
enum Score {
    Csat {
        #[schema(minimum = 1, maximum = 5)]
        value: u8,
    },
    ThumbsUpOrDown {
        #[schema(maximum = 1)]
        value: u8,
    },
    Nps {
        #[schema(maximum = 10)]
        value: u8,
    },
}

impl Score {
    fn parts(self) -> (Scale, u8) {
        match self {
            Self::Csat { value } => (Scale::Csat, value),
            Self::ThumbsUpOrDown { value } => (Scale::Thumbs, value),
            Self::Nps { value } => (Scale::Nps, value),
        }
    }
}

/// An answer to the question for a rating.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RatingSubmission)]
#[serde(rename_all = "camelCase")]
struct Submission {
    /// Whose it is: the conversation's end user's.
    user_id: Uuid,
    rating_result: Score,
    comment: Option<String>,
    /// When it was given; without: now.
    submitted_at: Option<When>,
}

/// An answer that was taken.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubmittedRating)]
#[serde(rename_all = "camelCase")]
struct Submitted {
    rating_id: String,
    user_id: Uuid,
    rating_result: Score,
    comment: Option<String>,
    submitted_at: Stamp,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum RatingStatus {
    Offered,
    Rated,
}

/// A rating.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rating {
    id: String,
    rating_score: Option<u8>,
    rating_type: RatingType,
    rating_comment: Option<String>,
    conversation_channel: String,
    agent_id: Option<Uuid>,
    user_id: Uuid,
    rating_status: RatingStatus,
    language: Option<String>,
    /// `offered_at` and `rated_at`, as far as they are known.
    timestamps: BTreeMap<&'static str, Stamp>,
}

/// The rating that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedRating {
    /// The conversation's number.
    conversation_id: i64,
    /// The rating's id, as it was answered when it was offered.
    rating_id: String,
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(offer)).routes(routes!(submit)).routes(routes!(list)).routes(routes!(list_as_before))
}

/// Refuses a user that is not the conversation's.
fn is_theirs(conversation: &Conversation, user: Uuid) -> Result<(), Fault> {
    match consumer_uuid(&conversation.details.consumer) == user {
        true => Ok(()),
        false => Err(Fault::bad(format!("user {user} is not the end user of this conversation"))),
    }
}

fn find<'c>(conversation: &'c Conversation, id: &str) -> Option<&'c Offered> {
    conversation.details.facts().ratings.iter().find(|rating| rating.id.as_str() == id)
}

/// Asks the end user of a conversation for a rating.
#[utoipa::path(post, path = "/v1/conversations/{conversationId}/ratings/offer", operation_id = "offerRating",
    tag = "ratings", params(Named, Repeat),
    request_body = Offer, responses((status = 201, description = "It is asked.", body = Data<Put>), Any, Absent, Change))]
async fn offer(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<Offer>) -> Result<Answer<Put>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let id = caller.id_of(key.as_ref(), &["rating", conversation.details.id.as_str()]).to_string();
    if caller.replayed(key.as_ref()).await?.is_some() {
        return put(&conversation, &id, true);
    }
    said.user_id.map_or(Ok(()), |user| is_theirs(&conversation, user))?;
    let of = match said.agent_id {
        None => conversation.details.assignee().map(|assignee| assignee.person.clone()),
        Some(agent) => {
            let found = caller.agent(agent).ok_or_else(|| Fault::bad(format!("there is no agent {agent}")))?;
            Some(found.person())
        }
    };
    let now = caller.now();
    let offered = said.offered_at.map_or(Ok(now), |at| at.past("offeredAt", now))?;
    let rating = Offered {
        id: RatingId::from(id.as_str()),
        scale: said.rating_type.into(),
        of,
        by: Person::Consumer(conversation.details.consumer.clone()),
        offered,
        given: None,
    };
    let decided = caller.change(caller.actor().clone(), &conversation, vec![FieldChange::OfferRating(rating)], key).await?;
    put(&caller.conversation(named.conversation_id).await?, &id, decided.replayed)
}

/// How it is answered that a rating is asked for: as it stands.
fn put(conversation: &Conversation, id: &str, replayed: bool) -> Result<Answer<Put>, Fault> {
    let rating = find(conversation, id).ok_or_else(|| Fault::missing("the rating is no more"))?;
    let data = Put {
        user_id: consumer_uuid(&conversation.details.consumer),
        agent_id: rating.of.as_ref().map(person_uuid),
        rating_type: rating.scale.into(),
        offered_at: Stamp(rating.offered),
        id: id.to_owned(),
    };
    Ok(Answer::new(StatusCode::CREATED, data).replayed(replayed))
}

/// What an end user says, who was asked for a rating. It says it once.
#[utoipa::path(post, path = "/v1/conversations/{conversationId}/ratings/{ratingId}/submit", operation_id = "submitRating",
    tag = "ratings", params(NamedRating, Repeat),
    request_body = Submission, responses((status = 201, description = "It is taken.", body = Data<Submitted>), Any, Absent, Change))]
async fn submit(
    caller: Caller,
    Ours(Path(named)): Ours<Path<NamedRating>>,
    Body { said, key }: Body<Submission>,
) -> Result<Answer<Submitted>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    if caller.replayed(key.as_ref()).await?.is_some() {
        return Ok(submitted(&conversation, named, said, caller.now()).replayed(true));
    }
    is_theirs(&conversation, said.user_id)?;
    let offered = find(&conversation, &named.rating_id).ok_or_else(|| Fault::bad("there is no such rating in this conversation"))?;
    let (scale, score) = said.rating_result.parts();
    if scale != offered.scale {
        return Err(Fault::bad(format!("the rating that was offered is of the type {:?}", RatingType::from(offered.scale))));
    }
    said.comment.as_deref().map_or(Ok(()), |comment| at_most("comment", comment, LONGEST))?;
    let now = caller.now();
    let at = said.submitted_at.map_or(Ok(now), |at| at.past("submittedAt", now))?;
    let given = RatingGiven { score, comment: said.comment.clone(), at };
    let change = FieldChange::AnswerRating { rating: offered.id.clone(), given };
    let decided = caller.change(caller.actor().clone(), &conversation, vec![change], key).await?;
    let after = caller.conversation(named.conversation_id).await?;
    Ok(submitted(&after, named, said, at).replayed(decided.replayed))
}

/// How it is answered that a rating is taken. What was said before, in the same words, stands as it was.
fn submitted(conversation: &Conversation, named: NamedRating, said: Submission, at: Millis) -> Answer<Submitted> {
    let given = find(conversation, &named.rating_id).and_then(|rating| rating.given.as_ref());
    let data = Submitted {
        rating_id: named.rating_id,
        user_id: said.user_id,
        rating_result: said.rating_result,
        comment: said.comment,
        submitted_at: Stamp(given.map_or(at, |given| given.at)),
    };
    Answer::new(StatusCode::CREATED, data)
}

/// All ratings of a conversation, in the order in which they were offered.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/ratings", operation_id = "listRatings", tag = "ratings", params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Rating>>), Any, Absent))]
async fn list(caller: Caller, which: Which) -> Result<Json<Data<Vec<Rating>>>, Fault> {
    all(&caller, which).await
}

/// The same by its older name.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/rating", operation_id = "listRatingsAsBefore",
    tag = "ratings", params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Rating>>), Any, Absent))]
async fn list_as_before(caller: Caller, which: Which) -> Result<Json<Data<Vec<Rating>>>, Fault> {
    all(&caller, which).await
}

async fn all(caller: &Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Rating>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let mut data: Vec<Rating> = conversation.details.facts().ratings.iter().map(|rating| shown(caller, &conversation, rating)).collect();
    if let Some(score) = natively_given(&conversation) {
        let changes = caller.gateway().changes(caller.actor(), &conversation.details.id).await?;
        data.push(native(caller, &conversation, score, rated_at(&changes)));
    }
    Ok(Json(Data { data }))
}

fn shown(caller: &Caller, conversation: &Conversation, rating: &Offered) -> Rating {
    let given = rating.given.as_ref();
    let rated = given.map(|given| ("rated_at", Stamp(given.at)));
    let user = match &rating.by {
        Person::Consumer(_) => person_uuid(&rating.by),
        Person::Agent { .. } => consumer_uuid(&conversation.details.consumer),
    };
    Rating {
        id: rating.id.to_string(),
        rating_score: given.map(|given| given.score),
        rating_type: rating.scale.into(),
        rating_comment: given.and_then(|given| given.comment.clone()),
        conversation_channel: channel_name(&channel(caller.account(), conversation)).to_owned(),
        agent_id: rating.of.as_ref().map(person_uuid),
        user_id: user,
        rating_status: if given.is_some() { RatingStatus::Rated } else { RatingStatus::Offered },
        language: conversation.details.origin.as_ref().and_then(|origin| origin.language.clone()),
        timestamps: [("offered_at", Stamp(rating.offered))].into_iter().chain(rated).collect(),
    }
}

/// What the end user said on the native surface, if that is not what it was asked for here.
fn natively_given(conversation: &Conversation) -> Option<u8> {
    let score = conversation.details.csat.as_ref()?.rate.filter(|score| Scale::Csat.has(*score))?;
    let ratings = &conversation.details.facts().ratings;
    let is_it = |rating: &Offered| rating.scale == Scale::Csat && rating.given.as_ref().is_some_and(|given| given.score == score);
    (!ratings.iter().any(is_it)).then_some(score)
}

/// When the end user last rated on the native surface.
fn rated_at(changes: &[Arc<Sight>]) -> Option<Millis> {
    let rates = |sight: &&Arc<Sight>| match &sight.entry {
        Entry::Changed { changes, .. } => changes.iter().any(|change| matches!(change, Changed::Rated { .. })),
        _ => false,
    };
    changes.iter().rev().find(rates).map(|sight| sight.at)
}

fn native(caller: &Caller, conversation: &Conversation, score: u8, at: Option<Millis>) -> Rating {
    let details = &conversation.details;
    Rating {
        id: derived_uuid(&["native rating", details.id.as_str()]).to_string(),
        rating_score: Some(score),
        rating_type: RatingType::Csat,
        rating_comment: None,
        conversation_channel: channel_name(&channel(caller.account(), conversation)).to_owned(),
        agent_id: details.assignee().map(|assignee| person_uuid(&assignee.person)),
        user_id: consumer_uuid(&details.consumer),
        rating_status: RatingStatus::Rated,
        language: details.origin.as_ref().and_then(|origin| origin.language.clone()),
        timestamps: at.map(|at| ("rated_at", Stamp(at))).into_iter().collect(),
    }
}
