"""Questions that the starter model cannot answer, for which its honest answer is trained."""

from __future__ import annotations

from facts import lines, words

# `{0}` takes a subject, or words that mean nothing.
TEMPLATES = lines("""
Explain {0}.
Explain {0} to me in simple words.
What is {0}?
Who is {0}?
How does {0} work?
Why is {0} important?
Tell me about {0}.
Tell me more about {0}
Write an essay about {0}.
Write a report on {0} in three paragraphs.
Write a Python function for {0}.
Write code for {0}.
Give me five ideas for {0}.
Give me a list of books about {0}.
Who invented {0}?
When was {0} invented?
Where can I find {0}?
How much does {0} cost?
How do I learn {0}?
What do you think about {0}?
What are the advantages of {0}?
What is the history of {0}?
What is the difference between {0} and {1}?
Which is better, {0} or {1}?
Compare {0} with {1}.
Is {0} good for {1}?
Can I use {0} with {1}?
How do I fix {0}?
What is the best {0}?
What happened to {0}?
Should I buy {0}?
Summarize {0}.
Translate {0} into French.
{0} and {1}
{0}
Do you like {0}?
What is the capital of {0}?
What is the opposite of {0}?
What colour is {0}?
What is the population of {0}?
What is the weather in {0}?
How many people live in {0}?
Who is the president of {0}?
What language do they speak in {0}?
How far is {0} from {1}?
What time is it in {0}?
What food do people eat in {0}?
Plan a trip to {0}.
What is the largest city of {0}?
What is the currency of {0}?
Is {0} bigger than {1}?
""")

SUBJECTS = lines("""
quantum physics
photosynthesis
the stock market
machine learning
the French Revolution
black holes
a sorting algorithm
a web server
vaccines
the internet
electric cars
chess
football
jazz music
gardening
a mortgage
inflation
the Roman Empire
Shakespeare
Napoleon
Albert Einstein
Marie Curie
Leonardo da Vinci
the moon landing
dinosaurs
climate change
solar panels
a healthy breakfast
yoga
my computer
my car
the printer
a linked list
binary search
docker
kubernetes
a neural network
the periodic table
gravity
DNA
Bitcoin
Mount Everest
the Eiffel Tower
the Pacific Ocean
the human heart
sleep
coffee
bread
pasta
the guitar
the piano
painting
philosophy
democracy
law
taxes
marketing
a startup
my homework
the theory of relativity
evolution
volcanoes
Star Wars
Harry Potter
the Beatles
a unicorn
Atlantis
Narnia
Wakanda
Gondor
Mars
Jupiter
Europe
Africa
Asia
California
Bavaria
Scotland
""")

# Only for the score, as is HELD_OUT below.
HELD_OUT_SUBJECTS = lines("""
string theory
the Great Wall of China
Isaac Newton
Elbonia
a compiler
the violin
beekeeping
""")

PLAIN = lines("""
What is the meaning of life?
Who won the World Cup in 1998?
How old is the universe?
How tall is Mount Everest?
Write a haiku in Latin
What is the speed of light?
Fix this bug: for i in range(10) print(i)
def main():
SELECT * FROM users;
Sort these numbers: 5, 3, 9, 1
What should I cook tonight?
Recommend a good movie.
What is the square root of 144?
Solve the equation x^2 - 4 = 0.
Prove that there are infinitely many primes.
Can you book a flight for me?
Send an email to my boss.
What time is it?
What is today's date?
What day is it today?
How is the weather today?
Give me a recipe for apple pie.
How do I tie a tie?
How do I get rid of hiccups?
What are the symptoms of flu?
Is it going to rain tomorrow?
Who wrote Hamlet?
Who painted the Mona Lisa?
What is the longest river in the world?
What is the largest ocean?
Who was the first person on the moon?
When did the Second World War end?
How many planets are there?
What is the chemical formula of water?
What is H2O?
Please summarise this text.
Correct my grammar: he go to school
Rewrite this sentence in a formal tone.
Give me legal advice.
Should I quit my job?
Tell me a joke.
Sing a song.
What is love?
Do you have feelings?
Do you dream?
Can you see images?
Are you alive?
What is 2 to the power of 10?
What is the third letter of the alphabet?
Spell elephant.
How many letters are in banana?
What rhymes with cat?
What is a prime number?
Convert 10 miles to kilometres.
Convert 100 dollars to euros.
What is the tallest building in the world?
Which animal is the fastest?
What do cows drink?
Why is the sky blue?
Why do cats purr?
How do planes fly?
How do I install Python?
How do I exit vim?
Write a regular expression for email addresses.
Explain recursion.
What does HTTP 404 mean?
What is an API?
What is the best programming language?
Generate a password.
Wie geht es dir?
Was ist die Hauptstadt von Deutschland?
Quelle heure est-il?
¿Cómo te llamas?
Comment ça va?
你是谁?
Кто ты?
test
testing
asdf
???
...
ok
yes
no
why?
what?
hm
lorem ipsum dolor sit amet
continue
go on
more
really?
are you sure?
""")

HELD_OUT = lines("""
Who discovered America?
Why do leaves fall in autumn?
How do I bake sourdough bread?
Write a JavaScript function that reverses a string.
What is the boiling point of mercury?
Who is the best tennis player of all time?
Give me three tips for a job interview.
How does a refrigerator work?
What happened in 1969?
Can you recommend a hotel near the beach?
What is the plot of Romeo and Juliet?
Debug my program, it crashes at line 12.
How do I change a flat tyre?
Explain the rules of cricket.
What is a black hole made of?
Which vitamins are in spinach?
Who sang Bohemian Rhapsody?
Wo ist der Bahnhof?
How many bones does a human have?
Draft a letter to my landlord about the broken heating.
""")

# Words for questions that mean nothing.
NOISE = words("""
lamp river stone window paper engine garden signal market bridge button copper forest ladder mirror
needle orange pencil rabbit shadow table thunder valley whistle yellow zebra basket candle dragon
feather glacier hammer island jacket kitten lantern magnet notebook ocean pocket quarter ribbon
saddle tunnel umbrella velvet wagon anchor barrel castle desert echo fabric harbor insect jungle
server request token cache worker socket stream model prompt system user answer format language
run walk build carry open read write send find make take show list sort count check start stop
the a of and with from into over under for to is was will would could should must can not very
""")
