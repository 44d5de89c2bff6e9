import KokoroBundle
import KokoroSynthesis
import SynthesisSupport
import XCTest

final class ConcurrencyTests: XCTestCase {
    func testACancelledTaskEndsBehindTheStageThatRuns() async throws {
        let bundle = try TinyBundle()
        let gate = Gate()
        let stages = TinyStages { place, outputs in
            if place.package.stage == "Decoder" { await gate.pass() }
            return outputs
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        let task = Task { try await synthesizer.synthesize(phonemes: "abc.") }
        try await gate.arrival()
        task.cancel()
        await gate.open()
        await assertCancelled { try await task.value }
        XCTAssertEqual(stages.runs.last, "Decoder:frames_12")
        XCTAssertEqual(stages.loads.last, "Decoder:frames_12")
        let speech = try await synthesizer.synthesize(phonemes: "abc.")
        XCTAssertEqual(speech.parts.count, 1)
    }

    func testATaskThatIsCancelledWhileAFunctionIsLoadedDoesNotRunIt() async throws {
        let bundle = try TinyBundle()
        let gate = Gate()
        let stages = TinyStages(change: { $1 }, refuse: { _ in await gate.pass() })
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        let task = Task { try await synthesizer.synthesize(phonemes: "a") }
        try await gate.arrival()
        task.cancel()
        await gate.open()
        await assertCancelled { try await task.value }
        XCTAssertEqual(stages.loads, ["Encoder:tokens_8"])
        XCTAssertEqual(stages.runs, [])
    }

    func testATaskThatWasCancelledBeforeRunsNothing() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        for prewarms in [false, true] {
            let gate = Gate()
            let task = Task {
                await gate.pass()
                if prewarms {
                    try await synthesizer.prewarm()
                } else {
                    _ = try await synthesizer.synthesize(phonemes: "a")
                }
            }
            task.cancel()
            await gate.open()
            await assertCancelled { try await task.value }
        }
        XCTAssertEqual(stages.loads, [])
    }

    func testCallsAtTheSameTimeDoNotMixAndShareWhatIsLoaded() async throws {
        let bundle = try TinyBundle()
        let (alone, together) = (
            TinyStages(),
            TinyStages { _, outputs in
                await Task.yield()
                return outputs
            }
        )
        let texts = ["abc.", "cba.", "cccc", "ab, ba. ab ab ab ab.", "a"]
        var expected: [[Float]] = []
        for text in texts {
            let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: alone)
            expected.append(try await synthesizer.synthesize(phonemes: text).samples)
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: together)
        let found = try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
            for (index, text) in texts.enumerated() {
                group.addTask { (index, try await synthesizer.synthesize(phonemes: text).samples) }
            }
            return try await group.reduce(into: [Int: [Float]]()) { $0[$1.0] = $1.1 }
        }
        for index in texts.indices { XCTAssertEqual(found[index], expected[index]) }
        XCTAssertEqual(together.loads.count, Set(together.loads).count)
    }

    func testTwoCallsAreUnderWayAtOnce() async throws {
        let bundle = try TinyBundle()
        let gate = Gate()
        let stages = TinyStages { place, outputs in
            if place.package.stage == "Decoder" { await gate.pass() }
            return outputs
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        async let one = synthesizer.synthesize(phonemes: "abc.")
        async let two = synthesizer.synthesize(phonemes: "abc.")
        try await gate.arrival(2)
        await gate.open()
        let (first, second) = try await (one, two)
        XCTAssertEqual(first, second)
    }
}

final class MemoryTests: XCTestCase {
    func testEveryFunctionIsKeptUntilAllAreUnloaded() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        for text in ["a", "cccc", "a"] { _ = try await synthesizer.synthesize(phonemes: text) }
        XCTAssertEqual(stages.loads.count, 2 + 2 * 5)
        XCTAssertEqual(stages.unloads(of: "Tail:frames_12"), 0)
        await synthesizer.unload()
        let isUnloaded = await eventually { stages.unloads(of: "Tail:frames_12") == 1 }
        XCTAssert(isUnloaded)
        _ = try await synthesizer.synthesize(phonemes: "a")
        XCTAssertEqual(stages.loads.filter { $0 == "Tail:frames_12" }.count, 2)
    }

    func testOnePerStageLetsTheOtherBucketGo() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(
            bundle: bundle.folder(), stages: stages, memory: .onePerStage)
        for text in ["a", "cccc", "a"] { _ = try await synthesizer.synthesize(phonemes: text) }
        XCTAssertEqual(stages.loads.filter { $0 == "Encoder:tokens_8" }.count, 1)
        XCTAssertEqual(stages.loads.filter { $0 == "Tail:frames_12" }.count, 2)
        for bucket in ["Tail:frames_12", "Tail:frames_24"] {
            let isUnloaded = await eventually { stages.unloads(of: bucket) == 1 }
            XCTAssert(isUnloaded, bucket)
        }
    }

    func testPrewarmingRunsFunctionsOnceOnZeros() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        try await synthesizer.prewarm(tokens: [8], frames: [])
        XCTAssertEqual(stages.runs, ["Encoder:tokens_8", "Duration:tokens_8"])
        try await synthesizer.prewarm()
        XCTAssertEqual(stages.runs.count, 2 + 2 * 7)
        XCTAssertEqual(stages.loads.count, 2 * 7)
        _ = try await synthesizer.synthesize(phonemes: "a")
        XCTAssertEqual(stages.loads.count, 2 * 7)
        await assertRefused(2, "no bucket of 9 tokens; it has: 8, 16") {
            try await synthesizer.prewarm(tokens: [9])
        }
    }
}
