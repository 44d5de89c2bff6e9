import Foundation

/// Style vectors of one voice: row `n - 1` is the style of an utterance of `n` phonemes. Its first
/// half is timbre, its second half prosody.
public struct VoicePack: Sendable, Equatable {
    /// Rows of a pack of Kokoro-82M: one per possible number of phonemes.
    public static let standardRows = 510
    /// Columns of a pack of Kokoro-82M: 128 each for timbre and prosody.
    public static let standardColumns = 256

    /// The voice's name, or a blend's normal form (`a*0.6+b*0.4`, weights adding up to 1).
    public let name: String
    /// Values, row by row.
    public let values: [Float]
    /// Number of rows: the most phonemes it has a style for.
    public let rows: Int
    /// Values of a row.
    public let columns: Int

    /// Checks values and makes them a pack.
    ///
    /// - Parameters:
    ///   - name: of the voice.
    ///   - values: `rows * columns` of them, row by row.
    ///   - rows: number of rows.
    ///   - columns: values of a row.
    /// - Throws: `KokoroError.voice` if there are more or fewer, or some are NaN or infinite.
    public init(
        name: String, values: [Float], rows: Int = standardRows, columns: Int = standardColumns
    ) throws {
        let bytes = values.count * LittleEndian.floatBytes
        guard bytes == Self.byteCount(rows: rows, columns: columns) else {
            throw KokoroError.voice(
                "voice \(name): expected values [\(rows), \(columns)], found \(values.count)")
        }
        let bad = values.lazy.filter { !$0.isFinite }.count
        guard bad == 0 else {
            throw KokoroError.voice(
                "voice \(name): \(bad) of \(values.count) values are NaN or infinite")
        }
        self.name = name
        self.values = values
        self.rows = rows
        self.columns = columns
    }

    /// Reads a `.bin` file's content: raw little-endian float32, row by row.
    ///
    /// - Throws: `KokoroError.voice` if it has another length, or holds NaN or infinity.
    public init(
        name: String, bytes: Data, rows: Int = standardRows, columns: Int = standardColumns
    ) throws {
        let expected = Self.byteCount(rows: rows, columns: columns)
        guard bytes.count == expected else {
            throw KokoroError.voice(
                "voice \(name): expected \(expected) bytes of raw float32 [\(rows), \(columns)], "
                    + "found \(bytes.count)")
        }
        try self.init(
            name: name, values: LittleEndian.floats(bytes), rows: rows, columns: columns)
    }

    /// The style for a string of `phonemeCount` phonemes: `columns` values.
    ///
    /// - Throws: `KokoroError.voice` if the count is not within 1 and `rows`.
    public func row(phonemeCount: Int) throws -> [Float] {
        guard 1 <= phonemeCount, phonemeCount <= rows else {
            throw KokoroError.voice(
                "voice \(name): has styles for 1 to \(rows) phonemes, asked for \(phonemeCount)")
        }
        return Array(values[(phonemeCount - 1) * columns..<phonemeCount * columns])
    }

    /// Size of a pack's file; of sizes that no file has, the largest number.
    static func byteCount(rows: Int, columns: Int) -> Int {
        let values = rows.multipliedReportingOverflow(by: columns)
        let bytes = values.partialValue.multipliedReportingOverflow(by: LittleEndian.floatBytes)
        return values.overflow || bytes.overflow ? .max : bytes.partialValue
    }

    /// SHA-256 of the values as raw little-endian float32, which is that of a `.bin` file.
    public var sha256: String { ContentDigest.of(LittleEndian.bytes(values)) }

    /// Mixes voices: the weighted sum of their values, added in float64 and rounded once.
    ///
    /// - Parameter parts: packs and their shares, as `VoiceBlend` gives them; at least one. A
    ///   single pack is returned as it is.
    /// - Returns: the mix, named `a*0.6+b*0.4`.
    /// - Throws: `KokoroError.voice` if there is none, their shapes differ, or the sum is not
    ///   finite.
    public static func blended(_ parts: [(pack: VoicePack, weight: Double)]) throws -> VoicePack {
        guard let first = parts.first?.pack else {
            throw KokoroError.voice("a blend of no voices; expected at least one")
        }
        guard parts.count > 1 else { return first }
        var mixed = [Double](repeating: 0, count: first.values.count)
        for (pack, weight) in parts {
            guard pack.rows == first.rows, pack.columns == first.columns else {
                throw KokoroError.voice(
                    "voice \(pack.name): expected shape [\(first.rows), \(first.columns)], "
                        + "found [\(pack.rows), \(pack.columns)]")
            }
            for index in mixed.indices { mixed[index] += weight * Double(pack.values[index]) }
        }
        let names = parts.map { "\($0.pack.name)*\(String(format: "%.6g", $0.weight))" }
        return try VoicePack(
            name: names.joined(separator: "+"), values: mixed.map { Float($0) }, rows: first.rows,
            columns: first.columns)
    }
}
