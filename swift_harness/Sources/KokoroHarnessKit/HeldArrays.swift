import Foundation
import KokoroBundle
import KokoroRecordings
import KokoroSynthesis

/// Arrays by the digest of their values, each once.
struct HeldArrays: Sendable {
    private var arrays: [String: JSONValue] = [:]

    /// Keeps a tensor.
    ///
    /// - Parameter tensor: from a stage.
    /// - Returns: its SHA-256; nil for one that was recorded by its digest alone.
    /// - Throws: what its storage throws.
    mutating func hold(_ tensor: Tensor) throws -> String? {
        if let recorded = tensor.storage as? RecordedStorage, !recorded.isWhole { return nil }
        let bytes = try tensor.storage.bytes()
        let digest = ContentDigest.of(bytes)
        let used = bytes.lastIndex { $0 != 0 }.map { $0 - bytes.startIndex + 1 } ?? 0
        arrays[digest] = .table([
            "dtype": .string(tensor.type.rawValue),
            "shape": .array(tensor.shape.map(JSONValue.count)),
            "data": .string(bytes.prefix(used).base64EncodedString()),
        ])
        return digest
    }

    /// As `parity/harness.py` reads it.
    var json: JSONValue { .sorted(arrays) }
}
