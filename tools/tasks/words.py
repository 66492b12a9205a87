"""Words that several tasks share, one token each in the demo model's vocabulary."""

NAMES = tuple(
    "Mary John Tom Anna Bob Alice Paul Kate Mark Lucy Sam Emma Jack Ruth Adam Jane Luke Rose Peter Laura David Helen "
    "Frank Julia Simon Clara Oscar Nina Henry Eva".split()
)
PLACES = tuple("store park school office station market library beach".split())
OBJECTS = tuple("drink book ring ball key letter card lamp coin map cup hat pen bag box stone".split())
NOUNS = tuple(
    "key cabinet dog cat book lamp letter teacher doctor picture house car tree door table student farmer boat road "
    "bridge window garden flower bird song king".split()
)
PREPOSITIONS = tuple("to near behind beside above".split())
ADJECTIVES = tuple("old new small large good bad".split())
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
