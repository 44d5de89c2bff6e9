import KokoroBundle
import KokoroSynthesis
import SynthesisSupport
import XCTest

final class CompleteTests: XCTestCase {
    private let shapes = [
        Bucket(tokens: 8, frames: 8), Bucket(tokens: 16, frames: 16),
        Bucket(tokens: 16, frames: 24), Bucket(tokens: 32, frames: 12),
    ]

    private func change(
        _ output: String, _ change: @escaping @Sendable (Tensor) throws -> Tensor
    ) -> TinyStages {
        TinyStages { _, outputs in
            try outputs.merging([output: change(outputs[output]!)]) { _, changed in changed }
        }
    }

    func testBucketsAreTriedFromSmallToLarge() async throws {
        let bundle = try TinyBundle(complete: shapes)
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        let short = try await synthesizer.synthesize(phonemes: "ab")
        XCTAssertEqual(short.parts.map(\.bucket), [shapes[0]])
        XCTAssertEqual(short.samples.count, 5 * TinyBundle.samplesPerFrame)
        let long = try await synthesizer.synthesize(phonemes: "cccccc")
        XCTAssertEqual(long.parts.map(\.bucket), [shapes[2]])
        XCTAssertEqual(long.durations, [1, 3, 3, 3, 3, 3, 3, 1])
        XCTAssertEqual(stages.runs, ["Kokoro_8x8:main", "Kokoro_8x8:main", "Kokoro_16x24:main"])
    }

    func testWhatNoBucketHoldsIsSplitAndHalved() async throws {
        let bundle = try TinyBundle(complete: shapes)
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        let speech = try await synthesizer.synthesize(phonemes: "ccccc ccccc")
        XCTAssertEqual(speech.parts.map(\.phonemes), ["ccccc", "ccccc"])
        await assertRefused(7, "needs 168 samples", "'z' is one word") {
            try await synthesizer.synthesize(phonemes: "z")
        }
    }

    func testWhatOverflowsIsNotLookedAtForNaN() async throws {
        let bundle = try TinyBundle(complete: shapes)
        let stages = TinyStages { place, outputs in
            guard place.function.bucket.frames == 8 else { return outputs }
            var outputs = outputs
            outputs["audio"] = Tensor([Float](repeating: .nan, count: 32), shape: [1, 1, 32])
            return outputs
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        let speech = try await synthesizer.synthesize(phonemes: "ccc")
        XCTAssertEqual(speech.parts.map(\.bucket), [shapes[3]])
        await assertRefused(10, "NaN or infinite samples") {
            try await synthesizer.synthesize(phonemes: "a")
        }
    }

    func testALengthOrDurationsThatCannotBeAreRefused() async throws {
        let bundle = try TinyBundle(complete: shapes)
        for length: Int32 in [0, -4] {
            let stages = change("audio_length_samples") { _ in Tensor([length], shape: [1]) }
            let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            await assertRefused(10, "the network gave \(length) samples of speech") {
                try await synthesizer.synthesize(phonemes: "a")
            }
        }
        let stages = change("pred_dur") { tensor in
            Tensor([Int32](repeating: 1, count: tensor.count), shape: tensor.shape)
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        await assertRefused(10, "durations to padding") {
            try await synthesizer.synthesize(phonemes: "a")
        }
    }

    func testPrewarmingTakesTheShapesOfBothAxes() async throws {
        let bundle = try TinyBundle(complete: shapes)
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        try await synthesizer.prewarm(tokens: [16])
        XCTAssertEqual(stages.runs, ["Kokoro_16x16:main", "Kokoro_16x24:main"])
        await assertRefused(2, "no bucket of 7 frames; it has: 8, 12, 16, 24") {
            try await synthesizer.prewarm(frames: [7])
        }
    }
}
