"""The glossary."""

from alp_jax.scaling.glossary import GLOSSARY
from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, dict[str, str]]:
    return {"terms": dict(sorted(GLOSSARY.items(), key=lambda item: item[0].lower()))}
