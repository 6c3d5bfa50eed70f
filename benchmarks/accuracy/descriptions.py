"""What the labels of the data sets mean, in a sentence each, for zero-shot: written from the labels' names alone."""

from __future__ import annotations

from typing import Final

_QUESTIONS: Final = {
    "Abbreviation": "asks what an abbreviation or acronym stands for",
    "Description": "asks for a definition, an explanation, a reason or how something is done",
    "Entity": "asks for a thing: an animal, a colour, a food, a product, a book, a word or an event",
    "Location": "asks for a place: a city, a country, a mountain or a river",
    "Number": "asks for a number: a count, a date, a distance, an amount of money or an age",
    "Person": "asks for a person, a group of people or an organisation",
}
_NEWS: Final = {
    "Business": "companies, markets, money, trade and the economy",
    "Sports": "games, teams, players, matches and championships",
    "Technology": "computers, software, the internet, science and space",
    "World": "politics, governments, wars and events abroad",
}
_SENTIMENT: Final = {
    "negative": "dislikes it: bad, boring or disappointing",
    "positive": "likes it: good, enjoyable or moving",
}
_REVIEWS: Final = {"正面": "喜欢、满意、推荐", "负面": "不喜欢、失望、不推荐"}
_BANKING: Final = {
    "activate my card": "how to activate a card that has come",
    "age limit": "how old one must be, and accounts for children",
    "atm support": "at which cash machines the card works",
    "automatic top up": "topping up automatically when the balance is low",
    "balance not updated after bank transfer": "a bank transfer was made, but the balance has not changed",
    "beneficiary not allowed": "a transfer to this beneficiary is refused",
    "cancel transfer": "how to cancel a transfer that was made by mistake",
    "card about to expire": "the card expires soon and a new one is needed",
    "card arrival": "the card that was ordered has not arrived yet",
    "card delivery estimate": "how long the delivery of a new card takes",
    "card linking": "how to add or link a card to the app",
    "card payment fee charged": "a fee was charged for a payment by card",
    "card payment not recognised": "a payment by card that the customer did not make",
    "card payment wrong exchange rate": "the exchange rate of a payment by card in another currency is wrong",
    "cash withdrawal charge": "a fee was charged for taking out cash",
    "cash withdrawal not recognised": "cash was taken out that the customer did not take out",
    "change pin": "how to change the PIN of the card",
    "contactless not working": "contactless payment does not work",
    "country support": "in which countries the service and its cards are available",
    "declined card payment": "a payment by card was declined",
    "declined transfer": "a transfer was declined",
    "direct debit payment not recognised": "a direct debit that the customer did not set up",
    "disposable card limits": "how many disposable cards there may be and how much they may be used for",
    "exchange charge": "what exchanging currencies costs",
    "exchange rate": "which exchange rate is used and how it is set",
    "exchange via app": "how to exchange currencies in the app",
    "failed transfer": "a transfer did not go through",
    "fiat currency support": "which currencies can be held and exchanged",
    "get disposable virtual card": "how to get a disposable virtual card",
    "getting spare card": "how to get a second card for oneself or for the family",
    "getting virtual card": "how to get a virtual card",
    "passcode forgotten": "the passcode of the app is forgotten",
    "pending transfer": "a transfer is still pending",
    "request refund": "asks to have money back for something bought",
    "top up by bank transfer charge": "what topping up by bank transfer costs",
    "top up limits": "how much can be topped up at most",
    "transfer fee charged": "a fee was charged for a transfer",
    "unable to verify identity": "the identity check does not work",
    "virtual card not working": "a virtual card does not work",
    "wrong exchange rate for cash withdrawal": "the exchange rate for cash taken out abroad is wrong",
}

#: Descriptions by label, of those sets whose labels all have one.
DESCRIPTIONS: Final[dict[str, dict[str, str]]] = {
    "trec": _QUESTIONS,
    "agnews": _NEWS,
    "sst2_sent": _SENTIMENT,
    "chnsenticorp": _REVIEWS,
    "banking77": _BANKING,
    "banking77_design": _BANKING,
}
