//! What is talked about: short dialogues as a table, with branches. `{name}` is the consumer, `{order}` a number, `{day}` a day.

/// A step of a script.
#[derive(Debug)]
pub(super) enum Act {
    /// The consumer says one of these.
    C(&'static [&'static str]),
    /// The agent says one of these.
    A(&'static [&'static str]),
    /// The consumer sends a picture with this caption.
    Photo(&'static str),
    /// The agent shows a card: a title, and what its button says.
    Card(&'static str, &'static str),
    /// It goes on in one of these ways.
    Either(&'static [&'static [Act]]),
}

/// A dialogue.
#[derive(Debug)]
pub(super) struct Script {
    /// What the conversation is about.
    pub(super) topic: &'static str,
    pub(super) acts: &'static [Act],
    /// What an agent notes for colleagues.
    pub(super) note: &'static str,
}

use Act::{A, C, Card, Either, Photo};

pub(super) const NAMES: &[&str] = &[
    "Ann", "Ben", "Chloe", "David", "Elif", "Farid", "Gita", "Hugo", "Ines", "Jonas", "Kira", "Luca", "Mina", "Noah", "Olga", "Pablo",
    "Quinn", "Rosa", "Sami", "Tara", "Umut", "Vera", "Wanda", "Xenia", "Yusuf", "Zoe",
];

pub(super) const DAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub(super) const GREETINGS: &[&str] = &["Hi", "Hello", "Good morning", "Hello there", "Hey"];

pub(super) const THANKS: &[&str] =
    &["Thank you!", "Great, thanks a lot.", "Perfect, that helps.", "Thanks, have a nice day.", "That was quick, thank you."];

pub(super) const GOODBYES: &[&str] = &[
    "You are welcome, {name}. Have a nice day!",
    "My pleasure. Is there anything else? If not, I close this for today.",
    "Glad to help. Until next time, {name}.",
    "Any time. Goodbye!",
];

pub(super) const HANDOVERS: &[&str] = &[
    "My colleagues in {queue} know more about this. I pass you on.",
    "One moment please, I hand you over to {queue}.",
    "For this I need {queue}; they read what we wrote, so you need not repeat it.",
];

pub(super) const TAKEOVERS: &[&str] =
    &["Hello {name}, I have read what you wrote so far.", "Hi {name}, I take over from here.", "Hello {name}, thanks for waiting."];

pub(super) const COMMENTS: &[&str] = &[
    "Quick and friendly.",
    "It took a while until somebody answered.",
    "All good.",
    "Would be nice to see the order's state myself.",
    "Very patient with me, thank you.",
    "Nothing to improve.",
];

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        topic: "delivery late",
        note: "carrier reports a delay at the depot",
        acts: &[
            C(&["my parcel was due on {day} and is not here yet", "order {order} should have come on {day}, where is it?"]),
            A(&["I am sorry to hear that, {name}. Could you give me the order number?", "Let me look. Is it order {order}?"]),
            C(&["it is {order}", "yes, {order}"]),
            A(&["Thank you. It left our warehouse and is at the carrier's depot.", "I see it: the carrier could not find the address."]),
            Either(&[
                &[A(&["It will be with you on {day}."]), C(&["ok, then I wait"])],
                &[
                    C(&["I am away from {day} on, can it go to a neighbour?"]),
                    A(&["Of course. At which number does the neighbour live?"]),
                    C(&["number 12, first floor"]),
                    A(&["Noted. The carrier will ring there."]),
                ],
                &[C(&["this is the second time"]), A(&["That should not happen. I refund the shipping to you."])],
            ]),
        ],
    },
    Script {
        topic: "wrong size",
        note: "exchange offered, return label sent",
        acts: &[
            C(&["the shoes from order {order} are too small", "I ordered a size M and it fits like an S"]),
            C(&["can I change them for the next size?", "is an exchange possible?"]),
            A(&["Sure, {name}. Are they unworn?", "Yes, within 30 days. Is the label still on?"]),
            Either(&[
                &[C(&["yes, only tried on at home"]), A(&["Then I send you a label for the way back."]), Card("Return label", "Download")],
                &[
                    C(&["I wore them once, outside"]),
                    A(&["Then I cannot exchange them, but I can give you a voucher of 10 %."]),
                    C(&["fair enough"]),
                ],
            ]),
        ],
    },
    Script {
        topic: "invoice question",
        note: "invoice checked against the order",
        acts: &[
            C(&["I do not understand my invoice", "there are two amounts on the invoice of {day}"]),
            C(&["it says {order} at the top"]),
            A(&[
                "I have it in front of me. The second amount is the shipping.",
                "One is for the order, the other the deposit for the box.",
            ]),
            Either(&[
                &[C(&["but shipping was free over 50"]), A(&["You are right. I correct it; you get a new invoice by mail."])],
                &[C(&["ah, now I see"])],
                &[C(&["can you put our company's name on it?"]), A(&["Yes. What is the full name?"]), C(&["Harbour Cycles Ltd"])],
            ]),
        ],
    },
    Script {
        topic: "password",
        note: "reset link sent, address confirmed",
        acts: &[
            C(&["I cannot log in any more", "the site does not take my password"]),
            A(&["Let us mend that. Do you get a message when you try?", "Which error do you see?"]),
            Either(&[
                &[
                    C(&["it says too many attempts"]),
                    A(&["That lock opens by itself in an hour. I can also open it now."]),
                    C(&["now, please"]),
                ],
                &[
                    C(&["just 'wrong password'"]),
                    A(&["Then use the button below; the link is good for ten minutes."]),
                    Card("Set a new password", "Send the link"),
                ],
                &[Photo("this is what I see"), A(&["Thank you, that helps: your address is not confirmed yet. I send the mail again."])],
            ]),
            C(&["I am in again", "it works now"]),
        ],
    },
    Script {
        topic: "opening hours",
        note: "asked for the shop by the harbour",
        acts: &[
            C(&["are you open on {day}?", "what are your hours on {day}?"]),
            A(&["On {day} we are open from 9 to 18, {name}.", "From 10 to 16 that day."]),
            Either(&[
                &[C(&["and is there parking?"]), A(&["Yes, behind the house, one hour is free."])],
                &[C(&["can I pick up order {order} then?"]), A(&["Yes, it is at the counter. Bring the mail with the code."])],
                &[],
            ]),
        ],
    },
    Script {
        topic: "cancellation",
        note: "wanted to leave because of the price",
        acts: &[
            C(&["I want to cancel my subscription", "please cancel {order}"]),
            A(&["I can do that, {name}. May I ask why?", "Sorry to see you go. Is something wrong with it?"]),
            Either(&[
                &[
                    C(&["I do not use it enough"]),
                    A(&["You could also pause it for three months."]),
                    C(&["oh, then pause it please"]),
                    A(&["Done. It pauses from {day} on."]),
                ],
                &[C(&["it became too expensive"]), A(&["Understood. It ends with this month, and you get a mail about it."])],
                &[C(&["I would rather not say"]), A(&["That is fine. It is cancelled as of {day}."])],
            ]),
        ],
    },
    Script {
        topic: "praise",
        note: "praise for the workshop, pass it on",
        acts: &[
            C(&["I just wanted to say that your workshop is great", "your colleague on {day} was so helpful"]),
            C(&["my bike runs like new", "I have never had such a good service"]),
            A(&["What a nice message, {name}! I tell the team.", "Thank you, that makes our day."]),
            Either(&[&[Photo("look at it"), A(&["Beautiful! May we show the picture in the shop?"]), C(&["of course"])], &[]]),
        ],
    },
    Script {
        topic: "broken on arrival",
        note: "damage in transit, replacement without return",
        acts: &[
            C(&["the lamp from order {order} came broken", "one of the glasses is in pieces"]),
            Photo("it looks like this"),
            A(&["Oh no. Thank you for the picture, that is enough for me.", "That is a pity. Was the box damaged too?"]),
            Either(&[
                &[C(&["the box was fine"]), A(&["Then it was packed badly. A new one leaves today."])],
                &[C(&["I would like my money back"]), A(&["I have started the refund; it takes three to five days."])],
            ]),
        ],
    },
    Script {
        topic: "payment failed",
        note: "card expired, second method offered",
        acts: &[
            C(&["my card was refused twice", "I cannot pay order {order}"]),
            A(&["The order is kept for you until {day}. Is the card still valid?", "I see two attempts. Did the bank ask you to confirm?"]),
            Either(&[
                &[C(&["oh, it expired last month"]), A(&["You can pay by transfer instead."]), Card("Pay by transfer", "Show the account")],
                &[C(&["no, nothing came"]), A(&["Please try once more now, I have reset it."]), C(&["it went through!"])],
            ]),
        ],
    },
    Script {
        topic: "change of address",
        note: "address changed before dispatch",
        acts: &[
            C(&["we are moving, can I change the address of {order}?", "I gave the wrong street"]),
            A(&["It has not left yet, so yes. What is the new one?"]),
            C(&["Mill Lane 4, same town", "12 Station Road, rear building"]),
            A(&["Changed. Only for this order, or for all?"]),
            Either(&[&[C(&["for all please"]), A(&["Done, it is in your profile now."])], &[C(&["only this one"])]]),
        ],
    },
    Script {
        topic: "is it in stock",
        note: "wants to be told when it is back",
        acts: &[
            C(&["do you have the blue jacket in L?", "when will the green kettle be back?"]),
            C(&["the site only says 'soon'"]),
            A(&["I look it up … we expect it on {day}.", "There are two left in the shop, none online."]),
            Either(&[
                &[C(&["can you keep one for me?"]), A(&["Yes, until {day}, under the name {name}."])],
                &[A(&["Shall I tell you when it is there?"]), C(&["yes please"]), Card("Tell me when it is back", "Yes")],
                &[C(&["too late for me, never mind"])],
            ]),
        ],
    },
    Script {
        topic: "voucher",
        note: "voucher was for the shop, exchanged",
        acts: &[
            C(&["my voucher does not work", "the code from the newsletter is refused"]),
            A(&["Which code is it?", "Could you send me the code, or a picture of it?"]),
            Either(&[&[C(&["SPRING-{order}"])], &[Photo("the voucher")]]),
            A(&["It is for the shop only, but I make you one for the site.", "It ended on {day}; I give you a new one all the same."]),
        ],
    },
    Script {
        topic: "how to return",
        note: "return by drop-off",
        acts: &[
            C(&["how do I send something back?", "I would like to return part of {order}"]),
            A(&["Put it in the box it came in, and stick this label on it."]),
            Card("Return label", "Download"),
            Either(&[
                &[C(&["I have no printer"]), A(&["Then show the code at the counter, they print it."])],
                &[C(&["and when do I get the money?"]), A(&["Two days after it is here."]), C(&["good"])],
            ]),
        ],
    },
    Script {
        topic: "technical question",
        note: "asked the workshop, part is compatible",
        acts: &[
            C(&["does the charger fit the older model too?", "which battery do I need for the {order}?"]),
            A(&["Which year is yours from?", "There are two versions. Can you see a number on the back?"]),
            Either(&[
                &[C(&["2021 I think"]), A(&["Then it fits."])],
                &[Photo("the back of it"), A(&["That is the second version: take the one with 18 V."])],
                &[C(&["I cannot find it"]), A(&["No problem. It is the flat one if it has no screw."]), C(&["it is flat"])],
            ]),
        ],
    },
];
