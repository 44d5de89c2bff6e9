import GoldenSupport
import KokoroBundle
import XCTest

@testable import KokoroSignal

/// Python's numbers, one test per function.
final class GoldenTests: XCTestCase {
    /// Every implementation that this system has.
    private var implementations: [VectorMath.Type] {
        #if canImport(Accelerate)
            return [PlainMath.self, AccelerateMath.self]
        #else
            return [PlainMath.self]
        #endif
    }

    func testNoise() throws {
        for math in implementations {
            try check("noise") { input in
                let noise = GaussianNoise(seed: try input.integer("seed", as: UInt64.self))
                let samples = noise.samples(
                    try input.integer("count"), skipping: try input.integer("skip"), using: math)
                return .table(["samples": .floats(samples)])
            }
        }
    }

    func testJoining() throws {
        try check("joining") { input in
            let parts = try input.floatLists("parts").map { samples in
                SpokenPart(
                    phonemes: "", samples: samples, durations: [0, 0],
                    bucket: Bucket(tokens: 3, frames: 1))
            }
            let speech = try Speech(joining: parts, sampleRate: 24_000, samplesPerFrame: 600)
            return .table(["samples": .floats(speech.samples)])
        }
    }

    func testTimestamps() throws {
        try check("timestamps") { input in
            let samplesPerFrame: Int = try input.integer("samples_per_frame")
            let parts = try input.tables("parts").map { part in
                let durations = try part.integers("durations", as: Int32.self)
                let frames = durations.reduce(0) { $0 + Int($1) }
                return SpokenPart(
                    phonemes: try part.text("phonemes"),
                    samples: Array(repeating: 0, count: frames * samplesPerFrame),
                    durations: durations, bucket: Bucket(tokens: 3, frames: 1))
            }
            let speech = try Speech(
                joining: parts, sampleRate: input.integer("sample_rate"),
                samplesPerFrame: samplesPerFrame)
            return .table(["timestamps": .list(speech.timestamps.map(Self.golden))])
        }
    }

    func testAlignment() throws {
        try check("alignment") { input in
            let durations = try input.integers("durations", as: Int32.self)
            let alignment = try Alignment(durations: durations, frames: input.integer("frames"))
            return .table([
                "alignment": .integers(alignment.tokens),
                "mask": .integers(alignment.mask.map { Int32($0) }),
            ])
        }
    }

    func testLoudness() throws {
        for math in implementations {
            try check("loudness") { input in
                let samples = try input.floats("samples")
                let reference = try input.floats("reference")
                return .table([
                    "peak": .number(Double(Levels.peak(samples))),
                    "rms_db": .number(Levels.rootMeanSquareDB(samples, using: math)),
                    "snr_db": .number(
                        try Levels.signalToNoiseDB(
                            reference: reference, candidate: samples, using: math)),
                    "level_difference_db": .number(
                        Levels.differenceDB(reference: reference, candidate: samples, using: math)),
                ])
            }
        }
    }

    private static func golden(_ mark: Timestamp) -> GoldenValue {
        .table([
            "phoneme": mark.phoneme.map { .text(String($0)) } ?? .null,
            "start": .number(mark.start), "end": .number(mark.end),
        ])
    }

    private func check(
        _ name: String, _ function: (GoldenInput) throws -> GoldenValue, line: UInt = #line
    ) throws {
        let file = try GoldenFile(name)
        XCTAssertGreaterThan(file.count, 0, line: line)
        for failure in file.failures(function) { XCTFail(failure, line: line) }
    }
}
