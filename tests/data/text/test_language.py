"""Languages: other scripts and other languages are named, short English is not taken for anything else."""

from alp_jax.data.text.language import OTHER_SCRIPT, foreign, latin


def test_languages_are_named():
    texts = {
        "de": "Ein Hund bellt in der Ferne, w\u00e4hrend ein Mann spricht.",
        "fr": "Un chien aboie au loin pendant qu'un homme parle.",
        "es": "Un perro ladra a lo lejos mientras habla un hombre",
        "ja": "\u9060\u304f\u3067\u72ac\u304c\u5420\u3048\u3066\u3044\u308b",
    }
    assert foreign(texts.values()) == list(texts)


def test_english_is_not_foreign_however_short():
    texts = ["Footsteps", "A man narration, monologue", "RAIN FALLS ON A TIN ROOF", "", "...", "Caf\u00e9 noise", "4/4"]
    assert foreign(texts) == [""] * len(texts)


def test_another_script_is_foreign_even_if_its_language_is_not_sure():
    assert foreign(["\u0421\u043e\u0431\u0430\u043a\u0430"])[0] not in ("", "en")
    assert OTHER_SCRIPT in foreign(["\u0421\u043e\u0431\u0430\u043a\u0430", "\u042f \u0442\u0443\u0442", "\u0430"])


def test_script_goes_by_the_letters_alone():
    assert latin("na\u00efve caf\u00e9 \u2013 \u20ac 12")
    assert latin("\u2764\ufe0f 120")
    assert latin("a \u5341")
    assert not latin("\u5341 \u72ac")
    assert not latin("\u0441\u043e\u0431\u0430\u043a\u0430 dog")
