import Foundation

extension Vocabulary {
    /// Reads the vocabulary of a bundle's configuration.
    ///
    /// - Parameters:
    ///   - configuration: JSON with a table of phonemes and ids under the key `vocab`. A name that
    ///     is not one code point can be no phoneme, and is left out.
    ///   - maxPhonemes: longest string of phonemes that the network takes at once.
    ///   - document: name of the file, for messages.
    /// - Throws: `KokoroError.checkpoint` if it is no JSON, or `vocab` is missing, empty, or maps
    ///   to anything but ids of 0 or above that fit 32 bits.
    public init(
        configuration: Data, maxPhonemes: Int, document: String = "config.json"
    ) throws {
        let failure = { (message: String) in KokoroError.checkpoint("\(document): \(message)") }
        let value: JSONValue
        do {
            value = try JSONValue(parsing: configuration)
        } catch {
            throw failure("not valid JSON (\(error.localizedDescription))")
        }
        guard case .object(let table) = value else {
            throw failure("expected a JSON object, found \(value.shown())")
        }
        guard case .object(let vocab) = table["vocab"] else {
            let found = (table["vocab"] ?? .null).shown()
            throw failure("expected an object under 'vocab', found \(found)")
        }
        let ids = vocab.entries.map { (name: $0.name, id: Self.tokenID($0.value)) }
        let bad = ids.filter { $0.id == nil }.map { quoted($0.name) }
        guard !ids.isEmpty, bad.isEmpty else {
            throw failure(
                "'vocab' must map phonemes to ids >= 0; wrong: [\(bad.prefix(5).joined(separator: ", "))]")
        }
        let phonemes = ids.compactMap { name, id in
            name.unicodeScalars.count == 1 ? (name.unicodeScalars.first!, id!) : nil
        }
        self.init(mapping: Dictionary(uniqueKeysWithValues: phonemes), maxPhonemes: maxPhonemes)
    }

    private static func tokenID(_ value: JSONValue) -> Int32? {
        guard case .integer(let digits) = value, let id = Int32(digits), id >= 0 else { return nil }
        return id
    }
}
