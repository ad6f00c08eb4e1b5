//! What the sockets tell: answers, events, conversations, offers.

use super::ledger::FEED;
use super::run::{Demo, FEED_TAG, FOLLOW, Published, Purpose, Question, Spoken, Timer, Waiting};
use super::talk::{Holder, Progress};
use crate::cli::link::{Event, Happened, refusal};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What was told of conversations that are being opened is kept up to here.
const UNCLAIMED: usize = 10_000;

/// A socket follows at most 50,000 dialogs, also those that are over; with so many it is opened anew.
const FOLLOWS: usize = 20_000;

fn changes(frame: &Value) -> &[Value] {
    frame["body"]["changes"].as_array().map_or(&[], Vec::as_slice)
}

/// What somebody wrote.
fn is_content(change: &Value) -> bool {
    change["event"]["type"] == "ContentEvent" || change["event"]["type"] == "RichContentEvent"
}

impl Demo {
    pub(super) fn hear(&mut self, event: Event) -> anyhow::Result<()> {
        let link = event.link;
        match event.what {
            Happened::Failed(error) => return Err(error),
            Happened::Down(why) => {
                self.moved = Instant::now();
                self.sides[link].is_up = false;
                tracing::debug!(link, reason = why, "a socket ended");
            }
            Happened::Up { connection, id } => {
                self.moved = Instant::now();
                let side = &mut self.sides[link];
                (side.connection, side.is_up, side.id, side.follows) = (connection, true, id, 0);
                if link == FEED { self.resume_feed() } else { self.resume_agent(link) }
            }
            Happened::Told(frame) if link == FEED => self.feed(&frame),
            Happened::Told(frame) => self.desk(link, &frame),
            Happened::Answer { tag: FEED_TAG, frame } => match refusal(&frame) {
                Some((_, why)) => return Self::lost(&why),
                None if self.cursor.is_none() => self.cursor = frame["body"]["cursor"].as_str().map(str::to_owned),
                None => {}
            },
            Happened::Answer { tag: FOLLOW, frame } => {
                if let Some((_, why)) = refusal(&frame) {
                    self.fail("an agent's look at a dialog", &why);
                }
            }
            Happened::Answer { tag, frame } => {
                let spoken = self.spoken_for.remove(&tag);
                if let Some(purpose) = self.purposes.remove(&tag) {
                    self.answered(purpose, spoken, &frame);
                }
            }
        }
        Ok(())
    }

    fn resume_feed(&mut self) {
        let body = self.cursor.as_ref().map_or_else(|| json!({}), |cursor| json!({"after": cursor}));
        self.ask_once(FEED, FEED_TAG, "ms.SubscribeApplicationEvents", &body);
    }

    fn resume_agent(&mut self, link: usize) {
        let following: Vec<(String, u64)> =
            self.talks.values().filter_map(|talk| Some((talk.id.clone()?, talk.book.next(link, talk.id.as_deref()?)?))).collect();
        for (dialog, next) in following {
            self.follow(link, &dialog, next);
        }
        self.ask_once(link, 0, "rs.SubscribeRoutingTasks", &json!({}));
        self.ask_once(link, 0, "rs.SetAgentState", &json!({"availability": "ONLINE"}));
    }

    fn follow(&mut self, link: usize, dialog: &str, next: u64) {
        self.sides[link].follows += 1;
        self.ask_once(link, FOLLOW, "ms.SubscribeMessagingEvents", &json!({"dialogId": dialog, "fromSeq": next}));
        if self.sides[link].follows > FOLLOWS
            && let Some(handle) = &self.sides[link].link
        {
            handle.come_again();
        }
    }

    // Answers.

    fn answered(&mut self, purpose: Purpose, spoken: Option<Spoken>, frame: &Value) {
        let refused = refusal(frame);
        let number = match &purpose {
            Purpose::Opened { talk, .. }
            | Purpose::Published { talk, .. }
            | Purpose::Upload { talk }
            | Purpose::Done { talk }
            | Purpose::Closed { talk } => *talk,
            Purpose::Rang | Purpose::Farewell => return,
        };
        let Some(talk) = self.talks.get_mut(&number) else { return };
        // The consumer's token, signed by a key that is used no more: once more with another.
        if matches!(refused, Some((40103 | 40104, _))) {
            let consumer = talk.plan.consumer;
            match spoken {
                Some(spoken) if !spoken.is_repeat => return self.fetch(consumer, Waiting::Asking { talk: number, spoken, purpose }),
                None if matches!(purpose, Purpose::Opened { .. }) && !talk.is_renewed => {
                    (talk.is_renewed, talk.asked) = (true, talk.asked - 1);
                    return self.fetch(consumer, Waiting::Opening(number));
                }
                _ => {}
            }
        }
        talk.asked -= 1;
        match (purpose, refused) {
            (Purpose::Opened { publish, .. }, None) => self.opened(number, publish, frame),
            (Purpose::Published { link, publish, what, .. }, None) => {
                let tells = link != FEED || self.settings.tells_positions;
                talk.book.acked(publish, frame["body"]["sequence"].as_u64().filter(|_| tells), &mut self.tally);
                match what {
                    Published::Step => self.next_step(number),
                    Published::Answer => talk.answers += 1,
                    Published::Receipt => {}
                }
            }
            (Purpose::Upload { .. }, None) => self.upload(number, &frame["body"]),
            (Purpose::Done { .. } | Purpose::Closed { .. } | Purpose::Rang | Purpose::Farewell, None) => {}
            // What is closed already: the feed tells by whom.
            (Purpose::Closed { .. }, Some(_)) if talk.is_over => {}
            (purpose, Some((code, why))) => self.refused(number, &purpose, code, &why),
        }
        self.forget_if_done(number);
    }

    fn refused(&mut self, number: u64, purpose: &Purpose, code: u64, why: &str) {
        match purpose {
            Purpose::Upload { .. } if code == 42901 => return self.try_later(number),
            Purpose::Opened { .. } => {
                self.talks.remove(&number);
                return self.fail("the opening of a conversation", why);
            }
            Purpose::Done { .. } | Purpose::Published { what: Published::Step, .. } | Purpose::Upload { .. } => {
                // A person closed it, or took it over, at the same moment: the feed is about to tell.
                self.next_step(number);
            }
            Purpose::Published { .. } | Purpose::Closed { .. } | Purpose::Rang | Purpose::Farewell => {}
        }
        self.fail("a request", why);
    }

    fn next_step(&mut self, number: u64) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        (talk.progress, talk.at, talk.is_speaking) = (Progress::Idle, talk.at + 1, false);
        self.advance(number);
    }

    fn opened(&mut self, number: u64, publish: u64, frame: &Value) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        let Some(id) = frame[1]["body"]["conversationId"].as_str() else {
            self.talks.remove(&number);
            return self.fail("the opening of a conversation", &frame.to_string());
        };
        talk.book.acked(publish, frame[2]["body"]["sequence"].as_u64(), &mut self.tally);
        talk.id = Some(id.to_owned());
        self.ids.insert(id.to_owned(), number);
        self.wait_for_agent(number);
        let is_opening = self.purposes.values().any(|purpose| matches!(purpose, Purpose::Opened { .. }));
        let (ours, others): (Vec<Value>, Vec<Value>) =
            std::mem::take(&mut self.unclaimed).into_iter().partition(|frame| conversation_of(frame) == Some(id));
        // What nobody claims when nothing is being opened is somebody else's.
        self.unclaimed = if is_opening { others } else { Vec::new() };
        for frame in ours {
            self.feed(&frame);
        }
        self.next_step(number);
    }

    // The application's feed.

    fn feed(&mut self, frame: &Value) {
        if let Some(cursor) = frame["body"]["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        let Some(id) = conversation_of(frame) else { return };
        let Some(number) = self.ids.get(id).copied() else {
            let is_opening = self.purposes.values().any(|purpose| matches!(purpose, Purpose::Opened { .. }));
            if is_opening && self.unclaimed.len() < UNCLAIMED {
                // The cursor is taken already, and must not go back when it is looked at.
                let mut frame = frame.clone();
                frame["body"]["cursor"] = Value::Null;
                self.unclaimed.push(frame);
            }
            return;
        };
        for change in changes(frame) {
            if frame["type"] == "ms.MessagingEventNotification" { self.event(number, change) } else { self.change(number, change) }
        }
        self.forget_if_done(number);
    }

    fn event(&mut self, number: u64, change: &Value) {
        let publish = self.publish_of(change);
        let Some(talk) = self.talks.get_mut(&number) else { return };
        let (Some(sequence), Some(dialog)) = (change["sequence"].as_u64(), change["dialogId"].as_str()) else { return };
        if !talk.book.saw(FEED, dialog, sequence, publish, &mut self.tally) {
            return;
        }
        let role = change["originatorMetadata"]["role"].as_str().unwrap_or_default();
        let is_shown = change["messageAudience"] != "AGENTS_AND_MANAGERS";
        if role == "CONSUMER" || !is_content(change) || !is_shown {
            return;
        }
        if talk.id.as_deref() != Some(dialog) {
            return self.asked(number, change);
        }
        if role != "CONTROLLER" {
            if publish.is_none() {
                talk.is_answered = true;
            }
            self.receipt(number, FEED, sequence);
            self.advance(number);
        }
    }

    /// A question of a survey.
    fn asked(&mut self, number: u64, change: &Value) {
        let is_question = change["metadata"].as_array().is_some_and(|data| data.iter().any(|data| data["type"] == "Question"));
        let Some(talk) = self.talks.get(&number).filter(|_| is_question) else { return };
        let pause = self.paced(talk.plan.opinion.pause);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let replies = change["event"]["quickReplies"]["replies"].as_array();
        let choices = replies.into_iter().flatten().map(|reply| text(&reply["title"])).collect();
        let question = Question { dialog: text(&change["dialogId"]), choices };
        self.after(pause, Timer::Answer { talk: number, question });
    }

    fn change(&mut self, number: u64, change: &Value) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        let sides = &self.sides;
        let ours = |id: &str| (1..sides.len()).find(|link| sides[*link].id == id);
        let details = &change["result"]["conversationDetails"];
        if talk.change(details, ours) {
            self.surveyed += u64::from(details["csat"]["status"] == "FILLED" && talk.answers > 0);
            return self.over(number);
        }
        if let (Holder::Ours(link), Some(id)) = (talk.holder, talk.id.clone())
            && talk.book.next(link, &id).is_none()
        {
            talk.book.look(link, &id);
            self.follow(link, &id, 0);
        }
        self.advance(number);
    }

    /// Says that something was delivered, or read, if the plan says so.
    fn receipt(&mut self, number: u64, link: usize, sequence: u64) {
        let Some(talk) = self.talks.get(&number) else { return };
        let (Some(id), true) = (talk.id.clone(), talk.plan.receipts >> (sequence % 64) & 1 == 1) else { return };
        let status = if talk.plan.receipts >> ((sequence + 7) % 64) & 1 == 1 { "READ" } else { "ACCEPT" };
        let event = json!({"type": "AcceptStatusEvent", "status": status, "sequenceList": [sequence]});
        self.publish(number, link, &id, &event, Published::Receipt);
    }

    // An agent's socket.

    fn desk(&mut self, link: usize, frame: &Value) {
        if frame["type"] == "rs.RoutingTaskNotification" {
            for ring in changes(frame).iter().flat_map(|change| change["result"]["ringsDetails"].as_array().into_iter().flatten()) {
                self.ring(link, ring);
            }
            return;
        }
        let Some(number) = conversation_of(frame).and_then(|id| self.ids.get(id)).copied() else { return };
        for change in changes(frame) {
            let Some(talk) = self.talks.get_mut(&number) else { return };
            let (Some(sequence), Some(dialog)) = (change["sequence"].as_u64(), change["dialogId"].as_str()) else { continue };
            let is_new = talk.book.saw(link, dialog, sequence, None, &mut self.tally);
            let is_consumers = change["originatorMetadata"]["role"] == "CONSUMER" && is_content(change);
            // Whoever has just passed it on takes part no more, whether the feed has told so or not.
            if is_new && is_consumers && talk.holder == Holder::Ours(link) && talk.progress != Progress::Moving {
                self.receipt(number, link, sequence);
            }
        }
        self.forget_if_done(number);
    }

    fn ring(&mut self, link: usize, ring: &Value) {
        let text = |member: &str| ring[member].as_str().unwrap_or_default().to_owned();
        let (id, conversation) = (text("ringId"), text("convId"));
        if ring["ringState"] != "WAITING" {
            self.rings.remove(&id);
        } else if self.rings.insert(id.clone(), conversation.clone()).is_none() {
            self.consider(link, id, conversation);
        }
    }
}

/// Which conversation a notification is about.
fn conversation_of(frame: &Value) -> Option<&str> {
    let change = frame["body"]["changes"].get(0)?;
    change["conversationId"].as_str().or_else(|| change["result"]["convId"].as_str())
}
