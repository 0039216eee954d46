"""Sentences to speak. Written for this benchmark, so that no training has read them."""

SENTENCES = (
    "The ferry leaves the harbour at a quarter past seven.",
    "Please put the green umbrella behind the kitchen door.",
    "My neighbour keeps bees on the roof of the old library.",
    "We walked along the river until the rain began to fall.",
    "Nobody expected the small theatre to be full tonight.",
    "She wrote the address on the back of a paper napkin.",
    "The second question was harder than the first one.",
    "A cold wind blew across the empty market square.",
    "He bought two pounds of apples and a loaf of bread.",
    "Turn left at the church and follow the narrow road.",
    "The children painted the fence in yellow and blue.",
    "I would rather wait here than stand in the snow.",
    "Their train was late, so they missed the concert.",
    "The doctor asked him to breathe slowly and count to ten.",
    "There is a letter for you on the table by the window.",
    "The museum opens on Sunday, but only after lunch.",
    "Our guide spoke softly, as if someone were asleep.",
    "Bring a warm coat, because the nights are long.",
    "The engine made a strange noise and then it stopped.",
    "Every morning the baker sings before the sun is up.",
)
