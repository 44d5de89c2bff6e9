import Foundation

/// The phonemes a network knows, one code point each, and how many it takes at once.
public struct Vocabulary: Sendable, Equatable {
    /// Token in front of and behind the phonemes; also what padding is filled with.
    public static let boundaryID: Int32 = 0
    /// Boundary tokens of an utterance: one in front, one behind.
    public static let boundaryTokens = 2

    /// Token id of each phoneme.
    public let mapping: [Unicode.Scalar: Int32]
    /// Longest string of phonemes that the network takes at once.
    public let maxPhonemes: Int

    /// A vocabulary of known phonemes.
    public init(mapping: [Unicode.Scalar: Int32], maxPhonemes: Int) {
        self.mapping = mapping
        self.maxPhonemes = maxPhonemes
    }

    /// Token ids `[0, *phonemes, 0]`, two more than phonemes.
    ///
    /// - Throws: `KokoroError.phonemes` if there are none, more than `maxPhonemes`, or unknown
    ///   ones, which are all named with code point and index.
    public func encode(_ phonemes: String) throws -> [Int32] {
        try requireKnown(phonemes)
        let count = phonemes.unicodeScalars.count
        guard count <= maxPhonemes else {
            throw KokoroError.phonemes(
                "\(count) phonemes, but the network takes at most \(maxPhonemes); "
                    + "split the text at a sentence or clause end")
        }
        let ids = phonemes.unicodeScalars.compactMap { mapping[$0] }
        return [Self.boundaryID] + ids + [Self.boundaryID]
    }

    /// Refuses what `encode` refuses but for the length.
    ///
    /// - Throws: `KokoroError.phonemes` if there are no phonemes, or unknown ones.
    public func requireKnown(_ phonemes: String) throws {
        guard !phonemes.isEmpty else {
            throw KokoroError.phonemes(
                "the phoneme string is empty; expected at least one phoneme")
        }
        let unknown = unknownPositions(phonemes)
        guard unknown.isEmpty else {
            let named = unknown.map { Self.describe($0.scalar, at: $0.indices) }
            throw KokoroError.phonemes(
                "not in the vocabulary: \(named.joined(separator: "; ")). Remove or replace what "
                    + "the checkpoint's config.json does not list")
        }
    }

    private func unknownPositions(
        _ phonemes: String
    ) -> [(scalar: Unicode.Scalar, indices: [Int])] {
        var found: [(scalar: Unicode.Scalar, indices: [Int])] = []
        var places: [Unicode.Scalar: Int] = [:]
        for (index, scalar) in phonemes.unicodeScalars.enumerated() where mapping[scalar] == nil {
            if let place = places[scalar] {
                found[place].indices.append(index)
            } else {
                places[scalar] = found.count
                found.append((scalar, [index]))
            }
        }
        return found
    }

    private static func describe(_ scalar: Unicode.Scalar, at indices: [Int]) -> String {
        let name = scalar.properties.name ?? "unnamed"
        let places = indices.map(String.init).joined(separator: ", ")
        return "\(quoted([scalar])) (\(scalar.codePointName) \(name)) at index \(places)"
    }
}

/// Token ids filled up to a bucket.
public struct PaddedTokens: Sendable, Equatable {
    /// The ids, then zeros: as many as the bucket holds.
    public let inputIDs: [Int32]
    /// 1 at the given ids, 0 at the padding.
    public let attentionMask: [Int32]

    /// Fills ids up to a bucket.
    ///
    /// - Parameters:
    ///   - ids: what `Vocabulary.encode` returned.
    ///   - tokens: what the bucket holds.
    /// - Throws: `KokoroError.phonemes` if the ids are fewer than one phoneme with its boundaries,
    ///   or exceed the bucket.
    public init(ids: [Int32], tokens: Int) throws {
        guard ids.count > Vocabulary.boundaryTokens else {
            throw KokoroError.phonemes(
                "\(ids.count) token ids; expected at least one phoneme between two boundary tokens")
        }
        guard ids.count <= tokens else {
            throw KokoroError.phonemes(
                "\(ids.count) token ids do not fit a bucket of \(tokens) tokens; use a larger "
                    + "bucket or split the text")
        }
        let padding = tokens - ids.count
        inputIDs = ids + Array(repeating: Vocabulary.boundaryID, count: padding)
        attentionMask =
            Array(repeating: 1, count: ids.count) + Array(repeating: 0, count: padding)
    }
}
