import KokoroBundle
import KokoroSignal
import KokoroSynthesis
import SynthesisSupport
import XCTest

final class StreamTests: XCTestCase {
    private let text = "ab, ba. ab ab ab ab. a b c."

    func testChunksTogetherAreTheSpeech() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        var chunks: [SpeechChunk] = []
        for try await chunk in synthesizer.stream(phonemes: text, voice: "second", speed: 1.25) {
            chunks.append(chunk)
        }
        let speech = try await synthesizer.synthesize(phonemes: text, voice: "second", speed: 1.25)
        XCTAssertEqual(chunks.count, 3)
        XCTAssertEqual(chunks.map(\.part), speech.parts)
        XCTAssertEqual(chunks.flatMap(\.samples), speech.samples)
        XCTAssertEqual(chunks.flatMap(\.timestamps), speech.timestamps)
        XCTAssertEqual(chunks[0].start, 0)
        XCTAssertEqual(chunks[1].start, chunks[0].seconds)
        XCTAssertEqual(chunks[2].timestamps.first?.start, chunks[2].start)
    }

    func testOnePartIsComputedAheadAndNoMore() async throws {
        let bundle = try TinyBundle()
        let (second, third) = (Gate(), Gate())
        let tails = Counter()
        let stages = TinyStages { place, outputs in
            guard place.package.stage == "Tail" else { return outputs }
            switch tails.next() {
            case 2: await second.pass()
            case 3: await third.pass()
            default: break
            }
            return outputs
        }
        let stream = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            .stream(phonemes: text)
        XCTAssertEqual(stages.runs, [])
        var iterator = stream.makeAsyncIterator()
        let first = try await iterator.next()
        XCTAssertEqual(first?.part.phonemes, "ab, ba.")
        try await second.arrival()
        XCTAssertEqual(stages.runs.filter { $0.hasPrefix("Encoder") }.count, 2)
        await second.open()
        let next = try await iterator.next()
        XCTAssertEqual(next?.part.phonemes, "ab ab ab ab.")
        try await third.arrival()
        await third.open()
        let last = try await iterator.next()
        XCTAssertEqual(last?.part.phonemes, "a b c.")
        let end = try await iterator.next()
        XCTAssertNil(end)
    }

    func testAnErrorComesBehindTheChunksInFrontOfIt() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        var iterator = synthesizer.stream(phonemes: "ab. z").makeAsyncIterator()
        let first = try await iterator.next()
        XCTAssertEqual(first?.part.phonemes, "ab.")
        await assertRefused(7, "'z' is one word") { try await iterator.next() }
        let end = try await iterator.next()
        XCTAssertNil(end)
    }

    func testWhatIsWrongIsThrownByTheFirstChunk() async throws {
        let bundle = try TinyBundle()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        var wrong = synthesizer.stream(phonemes: "a", voice: "nobody").makeAsyncIterator()
        await assertRefused(6, "nobody") { try await wrong.next() }
        var still = synthesizer.stream(phonemes: "a", speed: 0).makeAsyncIterator()
        await assertRefused(2, "speed") { try await still.next() }
    }

    func testASecondReaderIsRefused() async throws {
        let bundle = try TinyBundle()
        let gate = Gate()
        let stages = TinyStages { _, outputs in
            await gate.pass()
            return outputs
        }
        let stream = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            .stream(phonemes: "ab")
        let reader = Task {
            var iterator = stream.makeAsyncIterator()
            return try await iterator.next()
        }
        try await gate.arrival()
        var second = stream.makeAsyncIterator()
        await assertRefused(2, "read by one task") { try await second.next() }
        await gate.open()
        let chunk = try await reader.value
        XCTAssertEqual(chunk?.part.phonemes, "ab")
    }

    func testAStreamThatIsLetGoEndsItsWork() async throws {
        let bundle = try TinyBundle()
        let (gate, left) = (Gate(), Gate())
        let decoders = Counter()
        let stages = TinyStages { place, outputs in
            guard place.package.stage == "Decoder", decoders.next() == 2 else { return outputs }
            await gate.pass()
            let isCancelled = await eventually { Task.isCancelled }
            XCTAssert(isCancelled)
            await left.pass()
            return outputs
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        for try await chunk in synthesizer.stream(phonemes: text) {
            XCTAssertEqual(chunk.part.phonemes, "ab, ba.")
            try await gate.arrival()
            break
        }
        await gate.open()
        try await left.arrival()
        await left.open()
        try await Task.sleep(nanoseconds: 20_000_000)
        XCTAssertEqual(stages.runs.count, 7 + 4)
    }

    func testATaskThatIsCancelledWhileItWaitsForAChunkEndsTheWork() async throws {
        let bundle = try TinyBundle()
        let gate = Gate()
        let stages = TinyStages { place, outputs in
            guard place.package.stage == "Decoder" else { return outputs }
            await gate.pass()
            let isCancelled = await eventually { Task.isCancelled }
            XCTAssert(isCancelled)
            return outputs
        }
        let stream = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
            .stream(phonemes: text)
        let reader = Task {
            var iterator = stream.makeAsyncIterator()
            return try await iterator.next()
        }
        try await gate.arrival()
        reader.cancel()
        await gate.open()
        await assertCancelled { try await reader.value }
        XCTAssertEqual(stages.runs.count, 4)
    }
}
