"""Makes the demo: clips of tones and noise, and questions in the shape of SAKURA's files. Standard library only."""
import csv, math, os, random, struct, wave

RATE = 8000
TRACKS = {
    "Animal": (
        "Which animal would you say is heard?", "What would you most likely find on the animal that is heard?",
        {"dog": ("a wet nose", 190), "crow": ("a black beak", 520), "cow": ("two horns", 110)},
    ),
    "Emotion": (
        "Which feeling does the voice carry?", "Which words would suit somebody who feels like the voice, best of these?",
        {"happy": ("What a  day, it could not be better!", 660), "sad": ("I would rather stay in, alone.", 220), "angry": ("Who put this here, again?", 330)},
    ),
    "Gender": (
        "Is the voice that of a woman or of a man?", "Which form of address would suit the one who speaks?",
        {"Female": ("Madam", 230), "Male": ("Sir", 120)},
    ),
    "Language": (
        "Which language is spoken?", "In which of these towns would the language be heard most?",
        {"German": ("Kassel", 260), "Spanish": ("Burgos", 280), "Korean": ("Busan", 300)},
    ),
}

def clip(path, pitch, draw):
    samples = []
    for i in range(RATE // 4):
        t = i / RATE
        tone = sum(math.sin(2 * math.pi * pitch * k * t) / k for k in (1, 2, 3))
        samples.append(int(9000 * (tone / 2 + 0.1 * draw.uniform(-1, 1)) * math.sin(math.pi * 4 * t)))
    with wave.open(path, "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(RATE)
        out.writeframes(struct.pack(f"<{len(samples)}h", *samples))

def options(right, all_of_them, draw):
    order = draw.sample(all_of_them, len(all_of_them))
    shown = " ".join(f"({chr(97 + i)}) {text}" for i, text in enumerate(order))
    return shown, f"({chr(97 + order.index(right))}) {right}"

draw = random.Random(7)
for track, (single, multi, labels) in TRACKS.items():
    folder = os.path.join(os.path.dirname(__file__), "data", track)
    os.makedirs(os.path.join(folder, "audio"), exist_ok=True)
    with open(os.path.join(folder, "metadata.csv"), "w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["file", "attribute_label", "single_instruction", "single_answer", "multi_instruction", "multi_answer"])
        for label, (follows, pitch) in list(labels.items())[:2]:
            name = f"demo_{label.lower()}.wav"
            clip(os.path.join(folder, "audio", name), pitch, draw)
            asked, answer = options(label, list(labels), draw)
            asked_multi, answer_multi = options(follows, [text for text, _ in labels.values()], draw)
            blank = " " if track == "Emotion" else ""
            rows.writerow([name, label if track == "Language" else label.lower(), f"{single} {asked}", blank + answer, f"{multi} {asked_multi}", answer_multi])
