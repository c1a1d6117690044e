"""How the questions are put: phrasings that are trained on, and others that are only measured.

`{0}` and `{1}` are filled with facts. A held-out phrasing never enters the corpus; its score says
how far an answer holds when the words around the question change.
"""

from __future__ import annotations

from dataclasses import dataclass

from facts import lines


@dataclass(frozen=True)
class Asked:
    """The ways to ask for one kind of answer."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def _asked(trained: str, held_out: str = "") -> Asked:
    return Asked(lines(trained), lines(held_out) if held_out else ())


CAPITAL = _asked(
    """
What is the capital of {0}?
What's the capital of {0}?
What is the capital city of {0}?
Which city is the capital of {0}?
Tell me the capital of {0}.
Name the capital of {0}.
Capital of {0}?
capital of {0}
The capital of {0} is?
Do you know the capital of {0}?
Can you tell me the capital of {0}?
I would like to know the capital of {0}.
{0}: what is the capital?
What is {0}'s capital?
Give me the capital of {0}
What is the name of the capital of {0}?
Quick question: what is the capital of {0}?
What city is the capital of {0}?
""",
    """
Could you please tell me what the capital of {0} is?
Which city is {0}'s capital?
I need the name of {0}'s capital city.
Say the capital of {0}.
""",
)

COUNTRY = _asked(
    """
Which country has {0} as its capital?
{0} is the capital of which country?
Which country's capital is {0}?
What country is {0} the capital of?
{0} is the capital of what country?
Name the country whose capital is {0}.
Of which country is {0} the capital?
""",
    """
Tell me which country {0} is the capital of.
Which country is {0} the capital of?
""",
)

PLUS = _asked(
    """
What is {0} + {1}?
What's {0} + {1}?
{0} + {1}
{0} + {1} =
{0}+{1}
{0}+{1}=?
What is {0} plus {1}?
{0} plus {1}
How much is {0} + {1}?
How much is {0} plus {1}?
Calculate {0} + {1}.
Add {0} and {1}.
What is the sum of {0} and {1}?
Can you add {0} and {1}?
Please compute {0} + {1}
""",
    """
Work out {0} + {1}.
What do you get if you add {0} and {1}?
Tell me what {0} plus {1} is.
""",
)

MINUS = _asked(
    """
What is {0} - {1}?
What's {0} - {1}?
{0} - {1}
{0} - {1} =
{0}-{1}
{0}-{1}=?
What is {0} minus {1}?
{0} minus {1}
How much is {0} - {1}?
How much is {0} minus {1}?
Calculate {0} - {1}.
Subtract {1} from {0}.
Please compute {0} - {1}
""",
    """
Work out {0} - {1}.
Take {1} away from {0}.
Tell me what {0} minus {1} is.
""",
)

TIMES = _asked(
    """
What is {0} x {1}?
What is {0} * {1}?
What's {0} * {1}?
{0} * {1}
{0}*{1}
{0} x {1}
{0} x {1} =
{0} \N{MULTIPLICATION SIGN} {1}
What is {0} times {1}?
{0} times {1}
How much is {0} times {1}?
Calculate {0} * {1}.
Multiply {0} by {1}.
Multiply {0} and {1}.
What is the product of {0} and {1}?
""",
    """
Work out {0} * {1}.
Tell me what {0} times {1} is.
""",
)

DIVIDE = _asked(
    """
What is {0} / {1}?
What's {0} / {1}?
{0} / {1}
{0}/{1}
{0} \N{DIVISION SIGN} {1}
What is {0} divided by {1}?
{0} divided by {1}
How much is {0} divided by {1}?
Calculate {0} / {1}.
Divide {0} by {1}.
""",
    """
Work out {0} / {1}.
Tell me what {0} divided by {1} is.
""",
)

OPPOSITE = _asked(
    """
What is the opposite of {0}?
What's the opposite of {0}?
Opposite of {0}?
The opposite of {0} is?
Tell me the opposite of {0}.
Give me the opposite of {0}.
What word is the opposite of {0}?
Name the opposite of {0}.
What is the antonym of {0}?
Which word means the opposite of {0}?
Do you know the opposite of {0}?
""",
    """
What is the contrary of {0}?
Can you give me a word that is the opposite of {0}?
""",
)

NEXT_DAY = _asked(
    """
What day comes after {0}?
Which day comes after {0}?
What day is after {0}?
What is the day after {0}?
Which day follows {0}?
What comes after {0}?
Today is {0}. What day is tomorrow?
If today is {0}, what day is tomorrow?
What is the next day after {0}?
""",
    """
Tell me the day after {0}.
Which day is next after {0}?
""",
)

PREVIOUS_DAY = _asked(
    """
What day comes before {0}?
Which day comes before {0}?
What day is before {0}?
What is the day before {0}?
What comes before {0}?
Today is {0}. What day was yesterday?
If today is {0}, what day was yesterday?
""",
    """
Tell me the day before {0}.
Which day is right before {0}?
""",
)

NEXT_MONTH = _asked(
    """
What month comes after {0}?
Which month comes after {0}?
What month is after {0}?
What is the month after {0}?
Which month follows {0}?
What comes after {0}?
What is the next month after {0}?
""",
    """
Tell me the month after {0}.
Which month is next after {0}?
""",
)

PREVIOUS_MONTH = _asked(
    """
What month comes before {0}?
Which month comes before {0}?
What month is before {0}?
What is the month before {0}?
What comes before {0}?
""",
    """
Tell me the month before {0}.
Which month is right before {0}?
""",
)

NTH_DAY = _asked(
    """
What is the {0} day of the week?
Which day is the {0} day of the week?
Name the {0} day of the week.
""",
    "Tell me the {0} day of the week.",
)

NTH_MONTH = _asked(
    """
What is the {0} month of the year?
Which month is the {0} month of the year?
Name the {0} month of the year.
What is the {0} month?
""",
    "Tell me the {0} month of the year.",
)

MONTH_LENGTH = _asked(
    """
How many days are in {0}?
How many days does {0} have?
How many days are there in {0}?
How long is {0}?
""",
    "Tell me how many days {0} has.",
)

COLOUR = _asked(
    """
What colour is {0}?
What color is {0}?
Which colour is {0}?
What is the colour of {0}?
What is the color of {0}?
Tell me the colour of {0}.
What colour does {0} have?
{0}: what colour is it?
What's the colour of {0}?
""",
    """
Do you know what colour {0} is?
Tell me what color {0} is.
""",
)

MIX = _asked(
    """
What do you get when you mix {0} and {1}?
What colour do {0} and {1} make?
What color do {0} and {1} make?
What happens when I mix {0} and {1}?
Mix {0} and {1}.
What is {0} plus {1}?
What colour do you get from {0} and {1}?
If I mix {0} with {1}, what do I get?
Mixing {0} and {1} gives what colour?
""",
    """
Which colour results from mixing {0} and {1}?
I mix {0} paint with {1} paint. What colour is it?
""",
)

POEM = _asked(
    """
Write a poem about {0}.
Write a short poem about {0}.
Write me a poem about {0}
Tell me a poem about {0}.
A poem about {0}, please.
Can you write a poem about {0}?
Compose a poem about {0}.
Please write a short poem about {0}.
""",
    """
I would love a poem about {0}.
Make up a little poem about {0}.
""",
)

STORY = _asked(
    """
Tell me a story about {0}.
Tell me a short story about {0}.
Write a story about {0}.
Write a short story about {0}.
A story about {0}, please.
Can you tell me a story about {0}?
Please tell me a story about {0}.
I want a story about {0}.
""",
    """
I would love to hear a story about {0}.
Make up a little story about {0}.
""",
)

COUNT = _asked(
    """
Count from {0} to {1}.
Count from {0} to {1}
Please count from {0} to {1}.
Can you count from {0} to {1}?
Count up from {0} to {1}.
List the numbers from {0} to {1}.
Write the numbers from {0} to {1}.
""",
    """
Say all the numbers from {0} to {1}.
I want you to count from {0} to {1}.
""",
)

SAY_HELLO_IN = _asked(
    """
How do you say hello in {0}?
Say hello in {0}.
What is hello in {0}?
How do I say hello in {0}?
Translate hello to {0}.
Hello in {0}?
""",
    "Tell me how to say hello in {0}.",
)

SAY_THANKS_IN = _asked(
    """
How do you say thank you in {0}?
Say thank you in {0}.
What is thank you in {0}?
How do I say thank you in {0}?
Translate thank you to {0}.
Thank you in {0}?
""",
    "Tell me how to say thank you in {0}.",
)

REPEAT = _asked(
    """
Repeat: {0}
Repeat after me: {0}
Say: {0}
Please repeat: {0}
Repeat this: {0}
Echo: {0}
""",
    """
Now repeat this text: {0}
""",
)

MY_NAME = _asked(
    """
My name is {0}.
Hi, my name is {0}.
Hello, I am {0}.
I'm {0}.
Hello! My name is {0}.
Call me {0}.
""",
    "Good day, my name is {0}.",
)

WHAT_IS_MY_NAME = _asked(
    """
What is my name?
What's my name?
Do you remember my name?
Who am I?
Tell me my name.
""",
    "Can you tell me what my name is?",
)

# Wishes for JSON wrap a plain question.
AS_JSON = _asked(
    """
Answer in JSON: {0}
{0} Answer in JSON.
{0} Answer as JSON.
{0} Reply with JSON only.
Reply in JSON: {0}
JSON please: {0}
{0} Give me JSON.
{0} Respond with a JSON object.
""",
    """
{0} I need the answer as a JSON object.
Give the answer in JSON: {0}
""",
)

# Fixed questions and the fixed answers to them.
GREETING = _asked(
    """
Hello
Hello!
Hi
Hi!
Hi there
Hey
Hey!
Hey there!
Good morning
Good morning!
Good afternoon
Good evening
Greetings
Hello there
Hello, how are you?
Hi, how are you?
How are you?
How are you doing?
How are you today?
How do you do?
What's up?
Nice to meet you
👋
""",
    """
Hiya!
Good day!
Hello hello
Hey, how are you doing today?
""",
)

THANKS = _asked(
    """
Thanks
Thanks!
Thank you
Thank you!
Thank you very much
Thanks a lot
Thank you so much!
Many thanks
Great, thanks!
Thanks for your help
Cool, thank you
ok thanks
""",
    """
Thanks a million!
Perfect, thank you very much.
""",
)

GOODBYE = _asked(
    """
Bye
Bye!
Goodbye
Goodbye!
See you
See you later
See you tomorrow
Good night
Bye bye
That is all, goodbye
I have to go, bye
Farewell
""",
    """
Okay, bye for now!
See you soon, goodbye.
""",
)

IDENTITY = _asked(
    """
Who are you?
What are you?
What is your name?
What's your name?
Who am I talking to?
Tell me about yourself.
Introduce yourself.
Which model are you?
What model are you?
Are you a bot?
Are you an AI?
Are you ChatGPT?
Are you human?
Who made you?
Who created you?
What is Inglenook?
What is the starter model?
Are you a language model?
""",
    """
Could you introduce yourself?
What kind of model are you?
Please tell me who you are.
""",
)

ABILITIES = _asked(
    """
What can you do?
What do you know?
Help
How can you help me?
What can I ask you?
What are your abilities?
What are you good at?
Can you help me?
What questions can you answer?
What can you help me with?
Give me some examples of what you can do.
I need help
""",
    """
What sort of things can you do?
Tell me what I can ask you.
""",
)

DAYS_LIST = _asked(
    """
List the days of the week.
What are the days of the week?
Name the days of the week.
Tell me the days of the week.
Which days are in a week?
""",
    "Please list all days of the week.",
)

MONTHS_LIST = _asked(
    """
List the months of the year.
What are the months of the year?
Name the months of the year.
Tell me the months of the year.
Name all months.
List the months.
""",
    "Please list all months of the year.",
)

WEEK_LENGTH = _asked(
    """
How many days are in a week?
How many days does a week have?
How many days are there in a week?
""",
    "Tell me how many days a week has.",
)

YEAR_LENGTH = _asked(
    """
How many months are in a year?
How many months does a year have?
How many months are there in a year?
""",
    "Tell me how many months a year has.",
)
