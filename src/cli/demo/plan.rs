//! What will be talked about: each conversation is a pure function of the seed, its number and the options.
//!
//! When something happens depends on the gateway and on people; what is decided then does not.

use super::dice::Dice;
use super::scripts::{Act, COMMENTS, DAYS, GOODBYES, GREETINGS, HANDOVERS, NAMES, SCRIPTS, TAKEOVERS, THANKS};
use serde::Serialize;

/// What the plan depends on.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) seed: u64,
    pub(super) consumers: usize,
    /// Queues to write to, with their names.
    pub(super) queues: Vec<(String, String)>,
    /// The share of offers that simulated agents take, from 0 to 1.
    pub(super) share: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum By {
    Consumer,
    Agent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Saying {
    Text(String),
    /// A picture, made from this number.
    Photo {
        caption: String,
        picture: u64,
    },
    /// Rich content.
    Card {
        title: String,
        button: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Doing {
    /// Writes something, after typing for so many milliseconds.
    Say {
        what: Saying,
        typing: u64,
    },
    /// A whisper to other agents.
    Note(String),
    /// Leaves it to whoever serves this queue.
    Transfer(String),
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub(super) by: By,
    /// For how many milliseconds one thinks before.
    pub(super) pause: u64,
    pub(super) doing: Doing,
}

/// What an agent makes of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Offer {
    pub(super) takes: bool,
    pub(super) pause: u64,
}

/// What a consumer makes of a survey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Opinion {
    /// The consumer leaves instead.
    pub(super) skips: bool,
    /// From 1 to 5.
    pub(super) rating: usize,
    pub(super) is_settled: bool,
    pub(super) comment: &'static str,
    pub(super) pause: u64,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Conversation {
    pub(super) consumer: usize,
    pub(super) name: String,
    pub(super) topic: &'static str,
    pub(super) queue: String,
    /// The first is a text of the consumer, which opens the conversation; the last closes it.
    pub(super) steps: Vec<Step>,
    /// What agents make of the first offer, the second, and so on, then again from the first.
    pub(super) offers: Vec<Offer>,
    /// Which events get a receipt, by number modulo 64.
    pub(super) receipts: u64,
    pub(super) opinion: Opinion,
}

/// What a consumer is called; more than one may have the same first name.
pub(super) fn name(consumer: usize) -> &'static str {
    NAMES[consumer % NAMES.len()]
}

impl Options {
    /// The conversation of a number.
    pub(super) fn conversation(&self, number: u64) -> Conversation {
        let mut dice = Dice::of(self.seed, number);
        let consumers = u64::try_from(self.consumers).unwrap_or(1).max(1);
        // By turns from a random first: nobody writes again before all others have.
        let first = Dice::of(self.seed, u64::MAX).next() % consumers;
        let consumer = usize::try_from((first + number) % consumers).unwrap_or(0);
        let script = dice.pick(SCRIPTS);
        let (queue, _) = dice.pick(&self.queues).clone();
        let mut writer =
            Writer { name: name(consumer), order: dice.between(10_000, 99_999), day: dice.pick::<&str>(DAYS), steps: Vec::new() };
        writer.act(script.acts, &mut dice);
        let mut steps = writer.greeted(&mut dice);
        if dice.happens(0.3)
            && let Some(place) = after_an_agent(&steps, &mut dice)
        {
            let note = Step { by: By::Agent, pause: dice.between(300, 1_200), doing: Doing::Note(script.note.to_owned()) };
            steps.insert(place, note);
        }
        let others: Vec<(String, String)> = self.queues.iter().filter(|(id, _)| *id != queue).cloned().collect();
        if !others.is_empty() && dice.happens(0.2) {
            hand_over(&mut steps, dice.pick(&others), consumer, &mut dice);
        }
        steps.extend(writer.farewell(&mut dice));
        let offers = (0..16).map(|_| Offer { takes: dice.happens(self.share), pause: dice.between(1_000, 4_000) }).collect();
        let opinion = Opinion {
            skips: dice.happens(0.2),
            rating: usize::try_from(dice.between(1, 5).max(dice.between(1, 5))).unwrap_or(5),
            is_settled: dice.happens(0.8),
            comment: dice.pick::<&str>(COMMENTS),
            pause: dice.between(1_500, 4_000),
        };
        let (name, topic, receipts) = (name(consumer).to_owned(), script.topic, dice.next());
        Conversation { consumer, name, topic, queue, steps, offers, receipts, opinion }
    }
}

/// Somewhere behind an agent's first answer it goes to another queue, where somebody says hello.
fn hand_over(steps: &mut Vec<Step>, (id, queue): &(String, String), consumer: usize, dice: &mut Dice) {
    let Some(place) = after_an_agent(steps, dice) else { return };
    let says = |dice: &mut Dice, from: &[&str]| {
        let text = dice.pick(from).replace("{queue}", queue).replace("{name}", name(consumer));
        say(By::Agent, Saying::Text(text), dice)
    };
    let before = says(dice, HANDOVERS);
    let transfer = Step { by: By::Agent, pause: dice.between(300, 1_000), doing: Doing::Transfer(id.clone()) };
    let after = says(dice, TAKEOVERS);
    steps.splice(place..place, [before, transfer, after]);
}

/// A place behind something that an agent said.
fn after_an_agent(steps: &[Step], dice: &mut Dice) -> Option<usize> {
    let places: Vec<usize> = (1..=steps.len()).filter(|place| steps[place - 1].by == By::Agent).collect();
    if places.is_empty() { None } else { Some(*dice.pick(&places)) }
}

fn say(by: By, what: Saying, dice: &mut Dice) -> Step {
    let length = match &what {
        Saying::Text(text) => text.len(),
        Saying::Photo { .. } | Saying::Card { .. } => 10,
    };
    // Somebody who types quickly; nobody wants to watch a long text being written.
    let typing = (500 + 25 * u64::try_from(length).unwrap_or(0)).min(2_500);
    Step { by, pause: dice.between(600, 3_000), doing: Doing::Say { what, typing } }
}

/// Makes steps of acts.
struct Writer {
    name: &'static str,
    order: u64,
    day: &'static str,
    steps: Vec<Step>,
}

impl Writer {
    fn text(&self, texts: &[&str], dice: &mut Dice) -> Saying {
        let text = dice.pick(texts).replace("{name}", self.name).replace("{day}", self.day);
        Saying::Text(text.replace("{order}", &self.order.to_string()))
    }

    fn act(&mut self, acts: &[Act], dice: &mut Dice) {
        for act in acts {
            let (by, what) = match act {
                Act::C(texts) => (By::Consumer, self.text(texts, dice)),
                Act::A(texts) => (By::Agent, self.text(texts, dice)),
                Act::Photo(caption) => (By::Consumer, Saying::Photo { caption: (*caption).to_owned(), picture: dice.next() }),
                Act::Card(title, button) => (By::Agent, Saying::Card { title: (*title).to_owned(), button: (*button).to_owned() }),
                Act::Either(ways) => {
                    let way = dice.pick::<&[Act]>(ways);
                    self.act(way, dice);
                    continue;
                }
            };
            let step = say(by, what, dice);
            self.steps.push(step);
        }
    }

    /// The steps, with a greeting in front now and then: alone, or before the first text.
    fn greeted(&mut self, dice: &mut Dice) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.steps);
        let greeting = *dice.pick(GREETINGS);
        if dice.happens(0.35) {
            steps.insert(0, say(By::Consumer, Saying::Text(greeting.to_owned()), dice));
        } else if let Some(Step { doing: Doing::Say { what: Saying::Text(text), .. }, .. }) = steps.first_mut()
            && dice.happens(0.5)
        {
            *text = format!("{greeting}, {text}");
        }
        steps
    }

    /// How it ends: most consumers thank, most agents close.
    fn farewell(&self, dice: &mut Dice) -> Vec<Step> {
        let mut steps = Vec::new();
        if dice.happens(0.8) {
            let thanks = self.text(THANKS, dice);
            steps.push(say(By::Consumer, thanks, dice));
            let goodbye = self.text(GOODBYES, dice);
            steps.push(say(By::Agent, goodbye, dice));
        }
        let by = if dice.happens(0.8) { By::Agent } else { By::Consumer };
        steps.push(Step { by, pause: dice.between(800, 2_500), doing: Doing::Close });
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64) -> Options {
        let queues = [("-1", "the front desk"), ("77", "Billing")].map(|(id, name)| (id.to_owned(), name.to_owned())).to_vec();
        Options { seed, consumers: 40, queues, share: 0.7 }
    }

    fn bytes(options: &Options) -> Vec<u8> {
        (0..200).flat_map(|number| serde_json::to_vec(&options.conversation(number)).unwrap()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(bytes(&options(1)), bytes(&options(1)));
        assert_ne!(bytes(&options(1)), bytes(&options(2)));
        assert_ne!(options(1).conversation(0), options(1).conversation(40), "the same consumer says something else the next time");
        assert_eq!(options(1).conversation(0).consumer, options(1).conversation(40).consumer);
    }

    #[test]
    fn a_plan_begins_with_a_text_ends_with_a_close_and_has_some_of_everything() {
        let all: Vec<Conversation> = (0..400).map(|number| options(7).conversation(number)).collect();
        for conversation in &all {
            let first = &conversation.steps[0];
            assert!(matches!(&first.doing, Doing::Say { what: Saying::Text(_), .. } if first.by == By::Consumer), "{conversation:?}");
            assert!(conversation.steps.iter().filter(|step| step.doing == Doing::Close).count() == 1, "{conversation:?}");
            assert_eq!(conversation.steps.last().unwrap().doing, Doing::Close);
            let text = serde_json::to_string(conversation).unwrap();
            assert!(
                !text.contains("{name}") && !text.contains("{order}") && !text.contains("{day}") && !text.contains("{queue}"),
                "{text}"
            );
        }
        let has = |is: fn(&Doing) -> bool| all.iter().flat_map(|conversation| &conversation.steps).any(|step| is(&step.doing));
        assert!(has(|doing| matches!(doing, Doing::Note(_))));
        assert!(has(|doing| matches!(doing, Doing::Transfer(queue) if queue == "77")));
        assert!(has(|doing| matches!(doing, Doing::Say { what: Saying::Photo { .. }, .. })));
        assert!(has(|doing| matches!(doing, Doing::Say { what: Saying::Card { .. }, .. })));
        let topics: std::collections::HashSet<_> = all.iter().map(|conversation| conversation.topic).collect();
        assert!(topics.len() == SCRIPTS.len() && SCRIPTS.len() >= 12, "{topics:?}");
        let taken = all.iter().flat_map(|conversation| &conversation.offers).filter(|offer| offer.takes).count();
        assert!((4_200..4_800).contains(&taken), "seven of ten are taken: {taken} of 6400");
        assert!(all.iter().any(|conversation| conversation.opinion.skips) && all.iter().any(|conversation| !conversation.opinion.skips));
    }
}
