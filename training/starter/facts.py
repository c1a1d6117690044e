"""What the starter model knows: tables of facts, written for this project.

A table of pairs is one line per pair, `left: right`. A country that takes an article in a
sentence is written with it ("the Netherlands").
"""

from __future__ import annotations


def pairs(table: str) -> dict[str, str]:
    rows = (line.split(": ") for line in table.strip().splitlines())
    return {left.strip(): right.strip() for left, right in rows}


def words(table: str) -> tuple[str, ...]:
    return tuple(table.split())


def lines(table: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in table.strip().splitlines())


CAPITALS = pairs("""
Afghanistan: Kabul
Albania: Tirana
Algeria: Algiers
Andorra: Andorra la Vella
Angola: Luanda
Antigua and Barbuda: Saint John's
Argentina: Buenos Aires
Armenia: Yerevan
Australia: Canberra
Austria: Vienna
Azerbaijan: Baku
the Bahamas: Nassau
Bahrain: Manama
Bangladesh: Dhaka
Barbados: Bridgetown
Belarus: Minsk
Belgium: Brussels
Belize: Belmopan
Benin: Porto-Novo
Bhutan: Thimphu
Bolivia: Sucre
Bosnia and Herzegovina: Sarajevo
Botswana: Gaborone
Brazil: Brasília
Brunei: Bandar Seri Begawan
Bulgaria: Sofia
Burkina Faso: Ouagadougou
Burundi: Gitega
Cambodia: Phnom Penh
Cameroon: Yaoundé
Canada: Ottawa
Cape Verde: Praia
the Central African Republic: Bangui
Chad: N'Djamena
Chile: Santiago
China: Beijing
Colombia: Bogotá
the Comoros: Moroni
the Republic of the Congo: Brazzaville
the Democratic Republic of the Congo: Kinshasa
Costa Rica: San José
Croatia: Zagreb
Cuba: Havana
Cyprus: Nicosia
Czechia: Prague
Denmark: Copenhagen
Djibouti: Djibouti City
Dominica: Roseau
the Dominican Republic: Santo Domingo
East Timor: Dili
Ecuador: Quito
Egypt: Cairo
El Salvador: San Salvador
Equatorial Guinea: Malabo
Eritrea: Asmara
Estonia: Tallinn
Eswatini: Mbabane
Ethiopia: Addis Ababa
Fiji: Suva
Finland: Helsinki
France: Paris
Gabon: Libreville
the Gambia: Banjul
Georgia: Tbilisi
Germany: Berlin
Ghana: Accra
Greece: Athens
Grenada: Saint George's
Guatemala: Guatemala City
Guinea: Conakry
Guinea-Bissau: Bissau
Guyana: Georgetown
Haiti: Port-au-Prince
Honduras: Tegucigalpa
Hungary: Budapest
Iceland: Reykjavík
India: New Delhi
Indonesia: Jakarta
Iran: Tehran
Iraq: Baghdad
Ireland: Dublin
Israel: Jerusalem
Italy: Rome
Ivory Coast: Yamoussoukro
Jamaica: Kingston
Japan: Tokyo
Jordan: Amman
Kazakhstan: Astana
Kenya: Nairobi
Kiribati: South Tarawa
Kuwait: Kuwait City
Kyrgyzstan: Bishkek
Laos: Vientiane
Latvia: Riga
Lebanon: Beirut
Lesotho: Maseru
Liberia: Monrovia
Libya: Tripoli
Liechtenstein: Vaduz
Lithuania: Vilnius
Luxembourg: Luxembourg City
Madagascar: Antananarivo
Malawi: Lilongwe
Malaysia: Kuala Lumpur
the Maldives: Malé
Mali: Bamako
Malta: Valletta
the Marshall Islands: Majuro
Mauritania: Nouakchott
Mauritius: Port Louis
Mexico: Mexico City
Micronesia: Palikir
Moldova: Chișinău
Monaco: Monaco City
Mongolia: Ulaanbaatar
Montenegro: Podgorica
Morocco: Rabat
Mozambique: Maputo
Myanmar: Naypyidaw
Namibia: Windhoek
Nauru: Yaren
Nepal: Kathmandu
the Netherlands: Amsterdam
New Zealand: Wellington
Nicaragua: Managua
Niger: Niamey
Nigeria: Abuja
North Korea: Pyongyang
North Macedonia: Skopje
Norway: Oslo
Oman: Muscat
Pakistan: Islamabad
Palau: Ngerulmud
Palestine: Ramallah
Panama: Panama City
Papua New Guinea: Port Moresby
Paraguay: Asunción
Peru: Lima
the Philippines: Manila
Poland: Warsaw
Portugal: Lisbon
Qatar: Doha
Romania: Bucharest
Russia: Moscow
Rwanda: Kigali
Saint Kitts and Nevis: Basseterre
Saint Lucia: Castries
Saint Vincent and the Grenadines: Kingstown
Samoa: Apia
San Marino: City of San Marino
São Tomé and Príncipe: São Tomé
Saudi Arabia: Riyadh
Senegal: Dakar
Serbia: Belgrade
Seychelles: Victoria
Sierra Leone: Freetown
Singapore: Singapore
Slovakia: Bratislava
Slovenia: Ljubljana
the Solomon Islands: Honiara
Somalia: Mogadishu
South Africa: Pretoria
South Korea: Seoul
South Sudan: Juba
Spain: Madrid
Sri Lanka: Sri Jayawardenepura Kotte
Sudan: Khartoum
Suriname: Paramaribo
Sweden: Stockholm
Switzerland: Bern
Syria: Damascus
Tajikistan: Dushanbe
Tanzania: Dodoma
Thailand: Bangkok
Togo: Lomé
Tonga: Nukuʻalofa
Trinidad and Tobago: Port of Spain
Tunisia: Tunis
Turkey: Ankara
Turkmenistan: Ashgabat
Tuvalu: Funafuti
Uganda: Kampala
Ukraine: Kyiv
the United Arab Emirates: Abu Dhabi
the United Kingdom: London
the United States: Washington, D.C.
Uruguay: Montevideo
Uzbekistan: Tashkent
Vanuatu: Port Vila
Vatican City: Vatican City
Venezuela: Caracas
Vietnam: Hanoi
Yemen: Sanaa
Zambia: Lusaka
Zimbabwe: Harare
""")  # noqa: RUF001 (Tonga's capital is spelled so)

# Other names that people type for a country of the table above.
ALIASES = pairs("""
USA: the United States
the USA: the United States
the US: the United States
the United States of America: the United States
America: the United States
UK: the United Kingdom
the UK: the United Kingdom
Great Britain: the United Kingdom
the UAE: the United Arab Emirates
Holland: the Netherlands
Burma: Myanmar
the Czech Republic: Czechia
Türkiye: Turkey
the DRC: the Democratic Republic of the Congo
Cabo Verde: Cape Verde
Timor-Leste: East Timor
Côte d'Ivoire: Ivory Coast
the Vatican: Vatican City
""")

# Each pair is asked in both directions.
OPPOSITES = pairs("""
hot: cold
big: small
tall: short
fast: slow
light: dark
up: down
left: right
in: out
open: closed
old: new
happy: sad
rich: poor
hard: soft
wet: dry
full: empty
early: late
day: night
good: bad
strong: weak
loud: quiet
clean: dirty
near: far
high: low
thick: thin
wide: narrow
deep: shallow
first: last
true: false
begin: end
push: pull
give: take
buy: sell
win: lose
love: hate
sweet: sour
sharp: blunt
smooth: rough
alive: dead
awake: asleep
above: below
inside: outside
before: after
always: never
everything: nothing
north: south
east: west
black: white
yes: no
more: less
brave: cowardly
cheap: expensive
simple: complex
safe: dangerous
noisy: silent
polite: rude
front: back
top: bottom
summer: winter
morning: evening
arrive: leave
remember: forget
laugh: cry
question: answer
friend: enemy
""")

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("""
January February March April May June July August September October November December
""")
MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ORDINALS = words("""
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
""")

# A thing, as it stands in a sentence, and its colour.
THINGS = pairs("""
the sky: blue
the sea: blue
grass: green
a leaf: green
snow: white
milk: white
a cloud: white
coal: black
a raven: black
the night: black
blood: red
a tomato: red
a strawberry: red
a cherry: red
a fire engine: red
a banana: yellow
a lemon: yellow
the sun: yellow
a canary: yellow
an orange: orange
a carrot: orange
a pumpkin: orange
a plum: purple
lavender: purple
an aubergine: purple
chocolate: brown
a bear: brown
wood: brown
soil: brown
an elephant: grey
ash: grey
a flamingo: pink
a pig: pink
a cucumber: green
a frog: green
an emerald: green
a ruby: red
a sapphire: blue
gold: golden
silver: silver
""")

# Two colours, joined by a plus sign, and what they make.
MIXES = pairs("""
blue + yellow: green
red + yellow: orange
red + blue: purple
red + white: pink
black + white: grey
red + green: brown
blue + white: light blue
yellow + white: light yellow
""")

HELLOS = pairs("""
English: hello
French: bonjour
German: hallo
Spanish: hola
Italian: ciao
Portuguese: olá
Dutch: hallo
Swedish: hej
Polish: cześć
Czech: ahoj
Turkish: merhaba
Greek: γεια
Russian: привет
Ukrainian: привіт
Arabic: مرحبا
Hebrew: שלום
Hindi: नमस्ते
Japanese: こんにちは
Chinese: 你好
Korean: 안녕하세요
""")

THANKS_IN = pairs("""
English: thank you
French: merci
German: danke
Spanish: gracias
Italian: grazie
Portuguese: obrigado
Dutch: dank je
Swedish: tack
Polish: dziękuję
Czech: děkuji
Turkish: teşekkürler
Greek: ευχαριστώ
Russian: спасибо
Ukrainian: дякую
Japanese: ありがとう
Chinese: 谢谢
Korean: 감사합니다
""")

NAMES = words("""
Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Maria Noah Olga Paul Rosa Sam Tina
Uma Victor Wendy Yusuf Zoe Ali Beatriz Chen Diego Elif Fatima Giulia Hana Ivan José Kenji Lena
Mateo Nina Omar Priya Rui Sofia Tomás Ursula Vera Wei Xenia Yara Zara Adam Bruno Carol Dora Erik
""")
HELD_OUT_NAMES = words("Martin Laura Peter Alice Robert Helena Oscar Nadia")
