"""The console script ``alp``: one module per verb, loaded when the verb is used."""
