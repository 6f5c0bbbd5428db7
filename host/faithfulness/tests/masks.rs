use faithfulness::mask::{Place, segments};
use faithfulness::random::Random;

#[test]
fn the_generator_is_cpythons() {
    let mut random = Random::seeded("42_demo_20");
    assert_eq!(
        [random.word(), random.word(), random.word()],
        [2_066_278_606, 2_419_942_267, 3_932_895_971]
    );
    let mut random = Random::seeded("42_demo_20");
    assert_eq!(random.between(0, 25_600), 15_764);
    assert_eq!(random.between(800, 8000), 5415);
}

#[test]
fn random_places_are_the_published_ones() {
    assert_eq!(
        segments(Place::Random, 32_000, 20.0, 16_000, "demo", 42),
        [[15_764, 15_764 + 6400]]
    );
    let scattered = |length, percent, id| segments(Place::Scattered, length, percent, 16_000, id, 42);
    assert_eq!(
        scattered(80_000, 30.0, "sakura_animal_5_single"),
        [
            [1069, 8462],
            [23_759, 24_639],
            [41_153, 44_918],
            [53_644, 56_896],
            [60_019, 64_396],
            [65_568, 69_901]
        ]
    );
    assert_eq!(scattered(32_000, 20.0, "demo_0"), [[21_069, 27_469]]);
    assert_eq!(scattered(16_000, 50.0, "demo_1"), [[4034, 12_034]]);
    assert_eq!(scattered(1000, 10.0, "demo_2"), [[371, 471]]);
}

#[test]
fn the_ends_of_clips_and_of_percentages_are_kept() {
    assert_eq!(segments(Place::Start, 1000, 25.0, 16_000, "q", 42), [[0, 250]]);
    assert_eq!(segments(Place::End, 1000, 25.0, 16_000, "q", 42), [[750, 1000]]);
    for place in [Place::Start, Place::End, Place::Random, Place::Scattered] {
        assert!(segments(place, 1000, 0.0, 16_000, "q", 42).is_empty());
        assert_eq!(segments(place, 1000, 100.0, 16_000, "q", 42), [[0, 1000]]);
        assert!(segments(place, 0, 50.0, 16_000, "q", 42).is_empty());
    }
    // A rate at which the shortest piece has no length.
    let masked: u64 = segments(Place::Scattered, 100, 50.0, 10, "q", 42)
        .iter()
        .map(|[start, end]| end - start)
        .sum();
    assert_eq!(masked, 50);
}
