import KokoroBundle
import KokoroSynthesis
import SynthesisSupport
import XCTest

/// What a stage may not give.
final class StageContractTests: XCTestCase {
    /// Says something with one output replaced.
    private func speak(
        _ stage: String, _ output: String, of folder: BundleFolder? = nil,
        _ change: @escaping @Sendable (Tensor) throws -> Tensor?
    ) async throws {
        let bundle = try folder == nil ? TinyBundle() : nil
        let stages = TinyStages { place, outputs in
            guard place.package.stage == stage, let tensor = outputs[output] else { return outputs }
            var outputs = outputs
            outputs[output] = try change(tensor)
            return outputs
        }
        _ = try await KokoroSynthesizer(
            bundle: folder ?? XCTUnwrap(bundle).folder(), stages: stages
        )
        .synthesize(phonemes: "abc.")
    }

    func testNotANumberIsRefusedByStageAndOutput() async throws {
        let bundle = try TinyBundle()
        let folder = try bundle.folder()
        var count = 0
        for package in folder.manifest.packages {
            let stage = try XCTUnwrap(package.stage)
            for port in package.functions[0].outputs where port.type != .int32 {
                count += 1
                await assertRefused(10, "the stage \(stage) gave NaN or infinity in '\(port.name)'")
                {
                    try await speak(stage, port.name, of: folder) { tensor in
                        var bytes = try tensor.storage.bytes()
                        bytes.replaceSubrange(bytes.count - 2..<bytes.count, with: [0x80, 0x7F])
                        return try Tensor(bytes: bytes, type: tensor.type, shape: tensor.shape)
                    }
                }
            }
        }
        XCTAssertEqual(count, 22)
    }

    func testAnOutputThatIsMissingOrOfAnotherShapeOrTypeIsRefused() async {
        await assertRefused(9, "Prosody.mlpackage:frames_12 has the outputs", "found [\"asr\"") {
            try await speak("Prosody", "levels") { _ in nil }
        }
        await assertRefused(9, "has the output 'f0' of float32 [1, 24], found float32 [24, 1]") {
            try await speak("Prosody", "f0") { tensor in
                try Tensor(bytes: tensor.storage.bytes(), type: .float32, shape: [24, 1])
            }
        }
        await assertRefused(9, "has the output 'f0' of float32 [1, 24], found int32 [1, 24]") {
            try await speak("Prosody", "f0") { tensor in
                try Tensor(bytes: tensor.storage.bytes(), type: .int32, shape: [1, 24])
            }
        }
    }

    func testAnOutputThatTheManifestDoesNotKnowIsRefused() async throws {
        let bundle = try TinyBundle()
        let stages = TinyStages { _, outputs in
            outputs.merging(["more": .zeros(.int32, shape: [1])]) { first, _ in first }
        }
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        await assertRefused(9, "Encoder.mlpackage:tokens_8 has the outputs", "\"more\"") {
            try await synthesizer.synthesize(phonemes: "a")
        }
    }

    func testAFunctionWithoutAnInputOfTheStageIsRefused() async throws {
        let bundle = try TinyBundle()
        try bundle.change(#""name": "ref_s""#, to: #""name": "style""#)
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
        await assertRefused(9, "Duration.mlpackage:tokens_8 has the inputs", "\"ref_s\"") {
            try await synthesizer.synthesize(phonemes: "a")
        }
    }

    func testDurationsThatCannotBeAreRefused() async {
        let durations: @Sendable ([Int32]) -> @Sendable (Tensor) throws -> Tensor? = { values in
            { tensor in
                let padding = [Int32](repeating: 0, count: tensor.count - values.count)
                return Tensor(values + padding, shape: tensor.shape)
            }
        }
        await assertRefused(10, "durations to padding") {
            try await speak("Duration", "pred_dur", durations([1, 1, 2, 3, 1, 1, 1]))
        }
        await assertRefused(10, "gave 0 frames of speech") {
            try await speak("Duration", "pred_dur", durations([]))
        }
        await assertRefused(10, "negative duration") {
            try await speak("Duration", "pred_dur", durations([3, -1, 2]))
        }
    }

    func testAFunctionThatCannotBeLoadedIsTriedAgainByTheNextCall() async throws {
        let bundle = try TinyBundle()
        let attempts = Counter()
        let stages = TinyStages(
            change: { $1 },
            refuse: { place in
                if place.package.stage == "Source", attempts.next() == 1 {
                    throw KokoroError.package("no memory for Source")
                }
            })
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages)
        await assertRefused(9, "no memory for Source") {
            try await synthesizer.synthesize(phonemes: "a")
        }
        let speech = try await synthesizer.synthesize(phonemes: "a")
        XCTAssertEqual(speech.durations, [1, 1, 1])
        XCTAssertEqual(stages.loads.filter { $0 == "Encoder:tokens_8" }.count, 1)
    }

    func testEveryStageIsObservedWithWhatWentInAndCameOut() async throws {
        let bundle = try TinyBundle()
        let seen = Recorder()
        let stages = TinyStages()
        let synthesizer = try KokoroSynthesizer(bundle: bundle.folder(), stages: stages) {
            seen.add($0)
        }
        let speech = try await synthesizer.synthesize(phonemes: "abc.")
        XCTAssertEqual(seen.runs.map(\.stage), PipelineStage.allCases.map(\.rawValue))
        XCTAssertEqual(seen.runs.map { TinyStages.title($0.place) }, stages.runs)
        for run in seen.runs {
            XCTAssertGreaterThan(run.seconds, 0)
            XCTAssertGreaterThanOrEqual(run.loadSeconds, 0)
            XCTAssertEqual(
                run.inputs.keys.sorted(), run.place.function.inputs.map(\.name).sorted())
        }
        let audio = try XCTUnwrap(seen.runs.last?.outputs["audio"]).floats()
        XCTAssertEqual(Array(audio.prefix(speech.samples.count)), speech.samples)
    }
}

/// Counts calls.
final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0

    func next() -> Int {
        lock.withLock {
            count += 1
            return count
        }
    }
}
