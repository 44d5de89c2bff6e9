import KokoroBundle
import KokoroSynthesis
import SynthesisSupport
import XCTest

final class PipelineTests: XCTestCase {
    func testSpeechTakesTheSmallestBucketsThatHoldIt() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let speech = try await KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            .synthesize(phonemes: "abc.")
        XCTAssertEqual(
            stages.runs,
            [
                "Encoder:tokens_8", "Duration:tokens_8", "Prosody:frames_12", "Decoder:frames_12",
                "Source:frames_12", "Generator:frames_12", "Tail:frames_12",
            ])
        XCTAssertEqual(speech.durations, [1, 1, 2, 3, 1, 1])
        XCTAssertEqual(speech.samples.count, 9 * TinyBundle.samplesPerFrame)
        XCTAssertEqual(speech.parts.map(\.bucket), [Bucket(tokens: 8, frames: 12)])
        XCTAssertEqual(speech.timestamps.map(\.phoneme), [nil, "a", "b", "c", ".", nil])
        XCTAssertEqual(speech.timestamps[3].start, 4 * 4 / 24_000, accuracy: 1e-12)
        XCTAssertEqual(speech.sampleRate, 24_000)
    }

    func testEachAxisHasABucketOfItsOwn() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        let slow = try await synthesizer.synthesize(phonemes: "cccc")
        XCTAssertEqual(slow.parts.map(\.bucket), [Bucket(tokens: 8, frames: 24)])
        let long = try await synthesizer.synthesize(phonemes: ".......")
        XCTAssertEqual(long.parts.map(\.bucket), [Bucket(tokens: 16, frames: 12)])
    }

    func testWhatNoTokenBucketHoldsIsSplit() async throws {
        let bundle = try TinyBundle()
        let speech = try await KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
            .synthesize(phonemes: "ab, ba. ab ab ab ab.")
        XCTAssertEqual(speech.parts.map(\.phonemes), ["ab, ba.", "ab ab ab ab."])
        XCTAssertEqual(
            speech.samples.count,
            speech.durations.reduce(0) { $0 + Int($1) } * TinyBundle.samplesPerFrame)
    }

    func testWhatNoFrameBucketHoldsIsHalvedUntilOneDoes() async throws {
        let bundle = try TinyBundle(tokens: [32], frames: [12])
        let stages = TinyStages()
        let speech = try await KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            .synthesize(phonemes: "ccc, cc ccc")
        XCTAssertEqual(speech.parts.map(\.phonemes), ["ccc,", "cc", "ccc"])
        XCTAssertEqual(stages.runs.filter { $0 == "Duration:tokens_32" }.count, 5)
        XCTAssertEqual(stages.runs.filter { $0 == "Tail:frames_12" }.count, 3)
    }

    func testAWordThatNoBucketHoldsIsRefused() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        await assertRefused(7, "needs 168 samples", "holds 96", "'z' is one word") {
            try await synthesizer.synthesize(phonemes: "a z")
        }
        await assertRefused(7, "a word of more than 14 phonemes") {
            try await synthesizer.synthesize(phonemes: "aaaaaaaaaaaaaaa")
        }
    }

    func testSpeedReachesTheNetwork() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        let fast = try await synthesizer.synthesize(phonemes: "bbb", speed: 2)
        XCTAssertEqual(fast.durations, [1, 1, 1, 1, 1].map { Int32($0) })
        let slow = try await synthesizer.synthesize(phonemes: "bbb", speed: 0.5)
        XCTAssertEqual(slow.durations, [2, 4, 4, 4, 2])
    }

    func testASpeedThatIsNoPaceIsRefused() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        for speed in [0, -1, .nan, .infinity, 1e-60, 1e60] {
            await assertRefused(2, "speed must be a finite number above 0, found \(speed)") {
                try await synthesizer.synthesize(phonemes: "a", speed: speed)
            }
        }
        XCTAssertEqual(stages.loads, [])
    }

    func testVoicesAndBlendsReachTheNetwork() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        XCTAssertEqual(synthesizer.voices, ["first", "second"])
        var said: [[Float]] = []
        for voice in [nil, "first", "second", "first*0.5+second*0.5"] {
            said.append(try await synthesizer.synthesize(phonemes: "ab", voice: voice).samples)
        }
        XCTAssertEqual(said[0], said[1])
        XCTAssertEqual(Set(said).count, 3)
    }

    func testWhatIsNotKnownIsRefusedBeforeAnythingRuns() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        await assertRefused(6, "no voice 'nobody'", "first, second") {
            try await synthesizer.synthesize(phonemes: "a", voice: "nobody")
        }
        await assertRefused(7, "'x' (U+0078 LATIN SMALL LETTER X) at index 1") {
            try await synthesizer.synthesize(phonemes: "ax")
        }
        await assertRefused(7, "the phoneme string is empty") {
            try await synthesizer.synthesize(phonemes: "")
        }
        await assertRefused(7, "the phonemes are white space") {
            try await synthesizer.synthesize(phonemes: String(repeating: " ", count: 20))
        }
        XCTAssertEqual(stages.loads, [])
    }

    func testAStyleIsOfTheNumberOfPhonemes() async throws {
        let bundle = try TinyBundle()
        let folder = try bundle.folder()
        let seen = Recorder()
        let synthesizer = try KokoroSynthesizer(bundle: folder, stages: TinyStages()) { run in
            if run.stage == "Duration" { seen.add(run) }
        }
        _ = try await synthesizer.synthesize(phonemes: "ab.")
        let style = try seen.runs.first?.inputs["ref_s"]?.floats()
        XCTAssertEqual(style, try folder.voice("first").row(phonemeCount: 3))
    }

    func testABundleWithoutAWholeNetworkOrOfUnknownNoiseIsRefused() async throws {
        let partial = try TinyBundle()
        try partial.change(#""stage": "Tail""#, to: #""stage": "Tale""#)
        await assertRefused(11, "must have the same buckets") {
            try KokoroSynthesizer(bundle: partial.folder(), stages: TinyStages())
        }
        let noisy = try TinyBundle()
        try noisy.change("philox4x64-10/box-muller/float64", to: "mersenne")
        await assertRefused(11, "noise is mersenne", "philox4x64") {
            try KokoroSynthesizer(bundle: noisy.folder(), stages: TinyStages())
        }
    }
}

/// Stages that were observed.
final class Recorder: @unchecked Sendable {
    private let lock = NSLock()
    private var seen: [StageRun] = []

    var runs: [StageRun] { lock.withLock { seen } }

    func add(_ run: StageRun) { lock.withLock { seen.append(run) } }
}
