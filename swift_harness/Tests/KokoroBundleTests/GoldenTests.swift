import Foundation
import GoldenSupport
import XCTest

@testable import KokoroBundle

/// Python's numbers, one test per function.
final class GoldenTests: XCTestCase {
    /// The functions that tests here or in `KokoroSignalTests` read.
    private let tested = [
        "alignment", "blended_rows", "blends", "buckets", "halves", "joining", "loudness",
        "manifests", "noise", "padding", "shapes", "splitting", "timestamps", "tokenizer",
        "vocabularies", "voices", "wav",
    ]

    func testEveryGoldenFileIsTestedAndThereAreEnoughCases() throws {
        XCTAssertEqual(try GoldenFile.functions().sorted(), tested)
        let generated = try tested.filter { $0 != "manifests" }.map { try GoldenFile($0).count }
        XCTAssertGreaterThanOrEqual(generated.reduce(0, +), 500)
        XCTAssertGreaterThanOrEqual(try GoldenFile("manifests").count, 150)
    }

    func testTokenizer() throws {
        let vocabulary = try Self.vocabulary()
        let rows = try VoicePack(
            name: "rows", values: (0..<510 * 256).map { Float($0 / 256) })
        try check("tokenizer") { input in
            let phonemes = try input.text("phonemes")
            let ids = try vocabulary.encode(phonemes)
            let row = try rows.row(phonemeCount: phonemes.unicodeScalars.count)[0]
            return .table([
                "ids": .list(ids.map { .number(Double($0)) }), "voice_row": .number(Double(row)),
            ])
        }
    }

    func testVocabularies() throws {
        try check("vocabularies") { input in
            let table = try Vocabulary.table(
                configuration: Data(input.text("json").utf8), document: "config.json")
            var found = ExactTable<GoldenValue>()
            for (name, id) in table.entries { found[name] = .number(Double(id)) }
            return .table(["vocab": .fields(found)])
        }
    }

    func testPadding() throws {
        try check("padding") { input in
            let padded = try PaddedTokens(
                ids: input.integers("ids", as: Int32.self), tokens: input.integer("tokens"))
            return .table([
                "input_ids": .integers(padded.inputIDs),
                "attention_mask": .integers(padded.attentionMask),
            ])
        }
    }

    func testVoices() throws {
        try check("voices") { input in
            if input.has("bytes") {
                let bytes = Data(count: try input.integer("bytes"))
                return .floats(try VoicePack(name: "voice", bytes: bytes).row(phonemeCount: 1))
            }
            var values = Self.generatedPack(seed: try input.integer("seed"))
            let wrong = input.has("nan_at") ? try input.integers("nan_at") : []
            for place in wrong { values[place] = .nan }
            let pack = try VoicePack(name: "voice", bytes: LittleEndian.bytes(values))
            return .table([
                "row": .floats(try pack.row(phonemeCount: input.integer("phoneme_count")))
            ])
        }
    }

    func testBlends() throws {
        try check("blends") { input in
            let parts = try VoiceBlend(input.text("spec")).parts
            return .table([
                "parts": .list(parts.map { .list([.text($0.name), .number($0.weight)]) })
            ])
        }
    }

    func testBlendedRows() throws {
        try check("blended_rows") { input in
            let seeds = try input.table("seeds")
            let parts = try VoiceBlend(input.text("spec")).parts.map { part in
                let values = Self.generatedPack(seed: try seeds.integer(part.name))
                return (pack: try VoicePack(name: part.name, values: values), weight: part.weight)
            }
            let row = try VoicePack.blended(parts).row(phonemeCount: input.integer("phoneme_count"))
            return .table(["row": .floats(row)])
        }
    }

    func testBuckets() throws {
        try check("buckets") { input in
            let buckets = PipelineBuckets(
                tokens: try input.integers("tokens"), frames: try input.integers("frames"),
                samplesPerFrame: 600)
            let tokens = try buckets.tokenBucket(holding: input.integer("ids"))
            do {
                let frames = try buckets.frameBucket(holding: input.integer("duration_sum"))
                return .table([
                    "token_bucket": .number(Double(tokens)),
                    "frame_bucket": .number(Double(frames)),
                ])
            } catch KokoroError.frameOverflow(let needed, _) {
                return .table([
                    "token_bucket": .number(Double(tokens)), "frame_bucket": .null,
                    "needed_samples": .number(Double(needed)),
                ])
            }
        }
    }

    func testShapes() throws {
        try check("shapes") { input in
            let shapes = try input.integerLists("shapes").map {
                Bucket(tokens: $0[0], frames: $0[1])
            }
            let buckets = CompleteBuckets(shapes: shapes, samplesPerFrame: 600)
            let (ids, samples): (Int, Int) = (
                try input.integer("ids"), try input.integer("samples")
            )
            var tried = [try buckets.bucket(holding: ids)]
            if tried[0].frames * 600 < samples {
                tried.append(try buckets.bucket(holding: ids, samples: samples))
            }
            let values = tried.map { bucket in
                GoldenValue.list([.number(Double(bucket.tokens)), .number(Double(bucket.frames))])
            }
            return .table(["tried": .list(values), "bucket": values[values.count - 1]])
        }
    }

    func testSplitting() throws {
        try check("splitting") { input in
            let parts = try Splitting.split(input.text("phonemes"), limit: input.integer("limit"))
            return .table(["parts": .list(parts.map(GoldenValue.text))])
        }
    }

    func testHalves() throws {
        try check("halves") { input in
            let halves = try Splitting.halves(input.text("phonemes"))
            return .table(["left": .text(halves.left), "right": .text(halves.right)])
        }
    }

    func testWaveFiles() throws {
        try check("wav") { input in
            let file = try WaveFile(samples: input.floats("samples"), sampleRate: 24_000)
            return .table(["bytes": .bytes(file.data)])
        }
    }

    func testManifests() throws {
        try check("manifests") { input in
            _ = try Manifest(json: Data(input.text("json").utf8))
            return .table(["valid": .bool(true)])
        }
    }

    private func check(
        _ name: String, _ function: (GoldenInput) throws -> GoldenValue, line: UInt = #line
    ) throws {
        let file = try GoldenFile(name)
        XCTAssertGreaterThan(file.count, 0, line: line)
        for failure in file.failures(function) { XCTFail(failure, line: line) }
    }

    private static func vocabulary() throws -> Vocabulary {
        let head = Data(#"{"n_token": 178, "vocab": "#.utf8)
        let text = try head + GoldenFile.content("vocabulary.json") + Data("}".utf8)
        return try Vocabulary(configuration: text, maxPhonemes: 510)
    }

    /// The pack that both sides make of a seed instead of reading a file.
    private static func generatedPack(seed: Int) -> [Float] {
        let multiplier = 2_654_435_761
        return (0..<VoicePack.standardRows * VoicePack.standardColumns).map { place in
            let hashed = UInt32(truncatingIfNeeded: (place + seed) &* multiplier)
            return Float(Double(hashed) * 0x1p-32 - 0.5)
        }
    }
}
