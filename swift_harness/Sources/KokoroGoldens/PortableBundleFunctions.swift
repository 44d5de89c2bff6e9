import Foundation
import KokoroBundle

extension PortableFunctions {
    /// Those of `KokoroBundle`; phonemes are of `vocabulary`.
    static func ofBundles(_ vocabulary: Vocabulary) throws -> [PortableFunction] {
        try [
            PortableFunction("blended_rows") { try blendedRows($0) },
            PortableFunction("blends") { try blends($0) },
            PortableFunction("buckets") { try buckets($0) },
            PortableFunction("halves") { try halves($0) },
            PortableFunction("manifests") { try manifests($0) },
            PortableFunction("padding") { try padding($0) },
            PortableFunction("shapes") { try shapes($0) },
            PortableFunction("splitting") { try splitting($0) },
            PortableFunction("tokenizer", tokenizer(vocabulary)),
            PortableFunction("vocabularies") { try vocabularies($0) },
            PortableFunction("voice_files") { try voiceFiles($0) },
            PortableFunction("voices") { try voices($0) },
            PortableFunction("wav") { try wav($0) },
        ]
    }

    /// Token ids, and the row of a pack, seen in a pack whose values are their rows.
    private static func tokenizer(
        _ vocabulary: Vocabulary
    ) throws -> @Sendable (GoldenInput) throws -> GoldenValue {
        let (rows, columns) = (VoicePack.standardRows, VoicePack.standardColumns)
        let pack = try VoicePack(
            name: "rows", values: (0..<rows * columns).map { Float($0 / columns) })
        return { input in
            let phonemes = try input.text("phonemes")
            let ids = try vocabulary.encode(phonemes)
            let row = try pack.row(phonemeCount: phonemes.unicodeScalars.count)[0]
            return .table([
                "ids": .list(ids.map { .number(Double($0)) }), "voice_row": .number(Double(row)),
            ])
        }
    }

    private static func vocabularies(_ input: GoldenInput) throws -> GoldenValue {
        let table = try Vocabulary.table(
            configuration: Data(input.text("json").utf8), document: "config.json")
        var found = ExactTable<GoldenValue>()
        for (name, id) in table.entries { found[name] = .number(Double(id)) }
        return .table(["vocab": .fields(found)])
    }

    private static func padding(_ input: GoldenInput) throws -> GoldenValue {
        let padded = try PaddedTokens(
            ids: input.integers("ids", as: Int32.self), tokens: input.integer("tokens"))
        return .table([
            "input_ids": .integers(padded.inputIDs),
            "attention_mask": .integers(padded.attentionMask),
        ])
    }

    private static func voices(_ input: GoldenInput) throws -> GoldenValue {
        if input.has("bytes") {
            let bytes = Data(count: try input.integer("bytes"))
            return .floats(try VoicePack(name: "voice", bytes: bytes).row(phonemeCount: 1))
        }
        let shape = try PackShape(input)
        var values = shape.generated(seed: try input.integer("seed"))
        let wrong = input.has("nan_at") ? try input.integers("nan_at") : []
        for place in wrong { values[place] = .nan }
        let pack = try shape.pack("voice", bytes: LittleEndian.bytes(values))
        return .table([
            "row": .floats(try pack.row(phonemeCount: input.integer("phoneme_count")))
        ])
    }

    private static func voiceFiles(_ input: GoldenInput) throws -> GoldenValue {
        let pack = try PackShape(input).pack("voice", bytes: input.bytes("file"))
        return .table(["values": .floats(pack.values)])
    }

    private static func blends(_ input: GoldenInput) throws -> GoldenValue {
        let parts = try VoiceBlend(input.text("spec")).parts
        return .table([
            "parts": .list(parts.map { .list([.text($0.name), .number($0.weight)]) })
        ])
    }

    private static func blendedRows(_ input: GoldenInput) throws -> GoldenValue {
        let seeds = try input.table("seeds")
        let shape = try PackShape(input)
        let parts = try VoiceBlend(input.text("spec")).parts.map { part in
            let values = shape.generated(seed: try seeds.integer(part.name))
            let pack = try shape.pack(part.name, bytes: LittleEndian.bytes(values))
            return (pack: pack, weight: part.weight)
        }
        let row = try VoicePack.blended(parts).row(phonemeCount: input.integer("phoneme_count"))
        return .table(["row": .floats(row)])
    }

    private static func buckets(_ input: GoldenInput) throws -> GoldenValue {
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

    private static func shapes(_ input: GoldenInput) throws -> GoldenValue {
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

    private static func splitting(_ input: GoldenInput) throws -> GoldenValue {
        let parts = try Splitting.split(input.text("phonemes"), limit: input.integer("limit"))
        return .table(["parts": .list(parts.map(GoldenValue.text))])
    }

    private static func halves(_ input: GoldenInput) throws -> GoldenValue {
        let halves = try Splitting.halves(input.text("phonemes"))
        return .table(["left": .text(halves.left), "right": .text(halves.right)])
    }

    private static func wav(_ input: GoldenInput) throws -> GoldenValue {
        let file = try WaveFile(samples: input.floats("samples"), sampleRate: 24_000)
        return .table(["bytes": .bytes(file.data)])
    }

    private static func manifests(_ input: GoldenInput) throws -> GoldenValue {
        let manifest = try Manifest(json: Data(input.text("json").utf8))
        guard input.has("read") else { return .table(["valid": .bool(true)]) }
        return .table(["valid": .bool(true), "read": try GoldenValue(reading: manifest)])
    }
}

/// Rows and columns of a pack, those of Kokoro-82M where a case names none.
private struct PackShape {
    let rows: Int
    let columns: Int

    init(_ input: GoldenInput) throws {
        rows = input.has("rows") ? try input.integer("rows") : VoicePack.standardRows
        columns = input.has("columns") ? try input.integer("columns") : VoicePack.standardColumns
    }

    func pack(_ name: String, bytes: Data) throws -> VoicePack {
        try VoicePack(name: name, bytes: bytes, rows: rows, columns: columns)
    }

    /// The pack that both sides make of a seed instead of reading a file.
    func generated(seed: Int) -> [Float] {
        let multiplier = 2_654_435_761
        return (0..<rows * columns).map { place in
            let hashed = UInt32(truncatingIfNeeded: (place + seed) &* multiplier)
            return Float(Double(hashed) * 0x1p-32 - 0.5)
        }
    }
}
