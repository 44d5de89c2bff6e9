import KokoroBundle
import KokoroSignal
import KokoroSynthesis
import SynthesisSupport
import XCTest

/// Python's own speech of real sentences, from what its stages took and gave.
final class RecordedSpeechTests: XCTestCase {
    private static let voices = Recordings.committed
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("kokoro_coreml/data/voices")
    private static let read = Result {
        try Recordings(folder: Recordings.committed, voices: voices)
    }

    override class func tearDown() {
        if case .success(let recordings) = read { recordings.remove() }
    }

    private func recordings() throws -> Recordings { try Self.read.get() }

    private func synthesizer(
        memory: MemoryPolicy = .keepAll, hook: @escaping RecordedStages.Hook = { _ in }
    ) throws -> KokoroSynthesizer {
        let recordings = try recordings()
        return try KokoroSynthesizer(
            bundle: recordings.bundle, stages: RecordedStages(recordings.all, hook: hook),
            memory: memory)
    }

    private func check(_ speech: Speech, _ recording: Recording, line: UInt = #line) throws {
        XCTAssertEqual(
            ContentDigest.of(LittleEndian.bytes(speech.samples)), recording.samples.sha256,
            recording.id, line: line)
        XCTAssertEqual(
            speech.durations, try recording.durations.tensor.int32s(), recording.id, line: line)
        XCTAssertEqual(speech.timestamps, recording.timestamps, recording.id, line: line)
        XCTAssertEqual(
            speech.parts.map(\.phonemes), recording.parts.map(\.phonemes), recording.id, line: line)
        XCTAssertEqual(
            speech.parts.map(\.bucket), recording.parts.map(\.bucket), recording.id, line: line)
        XCTAssertEqual(
            speech.parts.map(\.samples.count), recording.parts.map(\.samples), recording.id,
            line: line)
    }

    func testEveryRecordingIsSaidBitForBit() async throws {
        let recordings = try recordings()
        XCTAssertGreaterThanOrEqual(recordings.all.count, 3)
        let synthesizer = try synthesizer()
        for recording in recordings.all {
            let speech = try await synthesizer.synthesize(
                phonemes: recording.phonemes, voice: recording.voice, speed: recording.speed)
            try check(speech, recording)
        }
    }

    func testTheRecordingsCoverSplittingHalvingAndSpeed() throws {
        let all = try recordings().all
        let buckets = try recordings().bundle.manifest.pipelineBuckets()
        let isSplit = { (recording: Recording) in
            recording.phonemes.unicodeScalars.count > buckets.longest(maxPhonemes: 510)
        }
        XCTAssert(all.contains { $0.parts.count == 1 })
        XCTAssert(all.contains { $0.parts.count > 1 && isSplit($0) })
        XCTAssert(all.contains { $0.parts.count > 1 && !isSplit($0) })
        XCTAssert(all.contains { $0.speed != 1 })
        XCTAssertGreaterThan(Set(all.flatMap(\.parts).map(\.bucket.tokens)).count, 1)
    }

    /// Peak of the first and the last 5 ms.
    private func loudestEnd(_ samples: some BidirectionalCollection<Float>, _ rate: Int) -> Float {
        let ends = Array(samples.prefix(rate / 200)) + Array(samples.suffix(rate / 200))
        return ends.map(abs).max() ?? 0
    }

    func testPartsBeginAndEndTooQuietlyToClickWhereTheyAreJoined() async throws {
        let click: Float = 0.002
        let synthesizer = try synthesizer()
        for recording in try recordings().all {
            let speech = try await synthesizer.synthesize(
                phonemes: recording.phonemes, voice: recording.voice, speed: recording.speed)
            for part in speech.parts {
                XCTAssertLessThan(loudestEnd(part.samples, speech.sampleRate), click, recording.id)
                let peak = part.samples.map(abs).max() ?? 0
                let cut = part.samples.drop { abs($0) < peak }
                XCTAssertGreaterThan(loudestEnd(cut, speech.sampleRate), click, recording.id)
            }
        }
    }

    func testAllAtOnceAndWithLittleMemoryIsTheSame() async throws {
        let recordings = try recordings()
        let synthesizer = try synthesizer(memory: .onePerStage)
        try await withThrowingTaskGroup(of: (Int, Speech).self) { group in
            for (index, recording) in recordings.all.enumerated() {
                group.addTask {
                    (
                        index,
                        try await synthesizer.synthesize(
                            phonemes: recording.phonemes, voice: recording.voice,
                            speed: recording.speed)
                    )
                }
            }
            for try await (index, speech) in group { try check(speech, recordings.all[index]) }
        }
    }

    func testTheFirstChunkArrivesBeforeTheLastIsComputed() async throws {
        let recording = try XCTUnwrap(recordings().all.first { $0.parts.count > 1 })
        let gate = Gate()
        let tails = Counter()
        let synthesizer = try synthesizer { place in
            if place.package.stage == "Tail", tails.next() == recording.parts.count {
                await gate.pass()
            }
        }
        var chunks: [SpeechChunk] = []
        for try await chunk in synthesizer.stream(
            phonemes: recording.phonemes, voice: recording.voice, speed: recording.speed)
        {
            chunks.append(chunk)
            if chunks.count == recording.parts.count - 1 {
                await assertArrival(at: gate)
                await gate.open()
            }
        }
        XCTAssertEqual(
            ContentDigest.of(LittleEndian.bytes(chunks.flatMap(\.samples))),
            recording.samples.sha256)
        XCTAssertEqual(chunks.flatMap(\.timestamps), recording.timestamps)
    }

    func testOtherInputsThanRecordedAreSeen() async throws {
        let recording = try XCTUnwrap(recordings().all.first { $0.parts.count == 1 })
        let synthesizer = try synthesizer()
        await assertRefused(9, "Duration.mlpackage", "other than recorded: speed") {
            try await synthesizer.synthesize(
                phonemes: recording.phonemes, voice: recording.voice,
                speed: recording.speed * 1.01)
        }
        let other = recording.phonemes.replacingOccurrences(of: ".", with: "!")
        await assertRefused(9, "Encoder.mlpackage", "other than recorded: input_ids") {
            try await synthesizer.synthesize(phonemes: other, voice: recording.voice)
        }
    }

    func testAStageThatIsWiredWronglyIsSeen() async throws {
        let recordings = try recordings()
        let recording = try XCTUnwrap(recordings.all.first { $0.parts.count == 1 })
        let stages = Exchanging(
            RecordedStages(recordings.all), "generator_scale", "generator_shift")
        let synthesizer = try KokoroSynthesizer(bundle: recordings.bundle, stages: stages)
        await assertRefused(
            9, "Generator.mlpackage", "other than recorded: generator_scale, generator_shift"
        ) {
            try await synthesizer.synthesize(
                phonemes: recording.phonemes, voice: recording.voice, speed: recording.speed)
        }
    }
}

/// Stages of which two outputs are exchanged.
private struct Exchanging: StageProvider {
    private let inner: RecordedStages
    private let names: (String, String)

    init(_ inner: RecordedStages, _ one: String, _ other: String) {
        self.inner = inner
        names = (one, other)
    }

    func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
        Runner(inner: try inner.runner(for: place), names: names)
    }

    private struct Runner: FunctionRunner {
        let inner: any FunctionRunner
        let names: (String, String)

        var place: PackagedFunction { inner.place }

        func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
            var outputs = try await inner.predict(inputs)
            if let one = outputs[names.0], let other = outputs[names.1] {
                outputs[names.0] = other
                outputs[names.1] = one
            }
            return outputs
        }
    }
}
