"""Sound event classes from the words of a file's name: class -> (name, noun phrase, words that mean it).

The words were read off the names of the packages' files; nobody listened to the files, so the labels are as good as
the names. The first class in table order that has a word wins, so specific classes come before general ones.
"""

import re

_TABLE = {
    "footsteps": ("footsteps", "footsteps", "footstep footsteps steps step walk crouch"),
    "door": ("a door", "a door or gate moving", "door doors gate fencegate chest creak elevator"),
    "glass": ("glass", "breaking or ringing glass", "glass jar vase"),
    "explosion": ("an explosion", "an explosion", "explosion explode tnt grenade grenadeimpact molotov mortar mineimpact "
                  "airmine explode blast graveimpact melonimpact rocket"),
    "gunshot": ("a gunshot", "gunfire", "gun gunshot bullet pistol shotgun minigun rifle smg hmg chaingun bolter needler "
                "gauss flechette cannon shotgunfire landgun nail"),
    "reload": ("a weapon being loaded", "a weapon being loaded", "reload shotgunreload sniperreload"),
    "energy_weapon": ("an energy weapon", "an energy weapon", "laser plasma ptl sinegun electro taser lasersight "
                      "lasercannon beam portalshot"),
    "fire": ("fire", "burning fire", "fire flame flamer flamethrower furnace lava blowtorch gunpowder extinguish "
             "fireballs ignite"),
    "water": ("water", "water", "water splash droplet drip bubble bubbles beewater planewater waterfontain jug "
              "rubberduck harbor pour"),
    "weather": ("weather", "wind, rain or thunder", "thunder wind arcticwind rain storm"),
    "bird": ("a bird", "a bird call", "bird birds crow sparrow albatross emu quetzal flamingo pheasant stork heron owl "
             "vulture iora pelican booby quail crane canary grouse adjutant zozulka chicken chickens rooster duck goose "
             "guinea fowl birdy firebird"),
    "animal": ("an animal", "an animal call", "dog bark cat lynx lion tiger jaguar wolf hyena cow calf yak sheep pig "
               "horse foal zebra moose elephant bear whale otter ferret mouse squirrel hamster raccoon rhinoceros "
               "giraffe deer koala chimpanzee monkey monkeys dolphin frog frogs turtle iguana snake python hedgehog "
               "porcupine chinchilla jerboa wallaby panda bee cricket insect beetle ladybug moth grasshopper weevil "
               "mosquito cockchafer newt urchin"),
    "monster": ("a monster", "a creature's growl", "bloodspider ortnok shevaar taman hovernet yeti yaga growl"),
    "human_voice": ("a human cry", "a human cry or laugh", "hurt death scream oooh burp hogchant yoohoo laugh talk "
                    "ow ooff ugh breath dying"),
    "crowd": ("a crowd", "people clapping or cheering", "applause applauses audience crowd circus disco"),
    "aircraft": ("an aircraft", "an aircraft", "plane airplane helicopter jet propeller quadrocopter rcplane aircraft "
                 "flyby parachute jetpackboost"),
    "vehicle": ("a vehicle", "a vehicle", "car bus truck tractor train diesel vehicle bicycle unicycle skateboard cart "
                "excavator wagon ship ferry ugv hover engine maglev monorail railtrain"),
    "machine": ("a machine", "running machinery", "machine machinery generator ventilation factory turbine pump hum "
                "drillgun jackhammer sawmill chainsaw drill mine minepump printer droning steam mining industry"),
    "bell": ("a bell", "a bell or gong", "bell chime chimes gong dong clock ring"),
    "alarm": ("an alarm", "an alarm or horn", "alarm siren basealert horn whistle phone telephone ringing clic claxon "
              "denied crossing"),
    "impact": ("an impact", "something hitting or breaking", "hit impact knock crash bump wood metal knife hammer "
               "pickhammer pickaxe baseballbat dig dug cracky crumbly choppy snappy node break breaks object falling "
               "ice sword tree splat stone hits sand gravel dirt snow brick bounce sparks sparking whipcrack"),
    "instrument": ("a musical instrument", "a musical instrument", "accordion banjo bongo castanets cello clarinet "
                   "cymbal cymbals drum drums flute guitar harmonica harp horn maracas organ piano saxophone snare "
                   "tambourine timpani triangle trombone trumpet tuba violin oboe bagpipes ukulele zither lute erhu ney "
                   "kazoo xylophone xylofon recorder keyboard koto cuica quena gamba yangqin yueqin rabel zurna "
                   "dulzaina washint xun rozhok changu spoons slit hang cembalo klavichord violoncello synth harpsichord "
                   "melody strings choir marimba squeezebox zhaleyka topshuur youhikko pipe percussion chord bass"),
    "coin": ("coins", "coins or a cash register", "coin coins cash till money"),
    "interface": ("an interface sound", "an interface sound", "click beep button menu bleep notify message dialog "
                  "window error notification mail info popup select toggle complete bonus login logout trash im sys "
                  "camera shutter screen countdown placed"),
}  # fmt: skip

EVENTS = {name: (event, noun) for name, (event, noun, _) in _TABLE.items()}
_CLASS_OF: dict[str, str] = {}
for _name, (_, _, _words) in _TABLE.items():
    for _word in _words.split():
        _CLASS_OF.setdefault(_word, _name)
_ORDER = list(_TABLE)


def words_of(name: str) -> list[str]:
    """Lower-case words of a file name: ``LRBark_1_LA_cut`` -> ``lr bark la cut``; digits separate."""
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", name)
    return re.sub(r"[^A-Za-z]+", " ", name).lower().split()


def classify(words: list[str]) -> str:
    """The event class of a list of words, or an empty text."""
    found = {_CLASS_OF[word] for word in words if word in _CLASS_OF}
    return min(found, key=_ORDER.index) if found else ""
