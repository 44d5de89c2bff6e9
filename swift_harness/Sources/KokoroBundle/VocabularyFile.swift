import Foundation

extension Vocabulary {
    /// Reads the vocabulary of a bundle's configuration.
    ///
    /// - Parameters:
    ///   - configuration: JSON with a table of phonemes and ids under the key `vocab`, and above
    ///     all ids `n_token`. A name that is not one code point can be no phoneme, and is left out.
    ///   - maxPhonemes: longest string of phonemes that the network takes at once.
    ///   - document: name of the file, for messages.
    /// - Throws: `KokoroError.checkpoint` if it is no JSON, or `vocab` is missing, empty, or maps
    ///   to anything but ids of 0 or above and below `n_token`.
    public init(
        configuration: Data, maxPhonemes: Int, document: String = "config.json"
    ) throws {
        let table = try Self.table(configuration: configuration, document: document)
        var mapping: [Unicode.Scalar: Int32] = [:]
        for (name, id) in table.entries where name.unicodeScalars.count == 1 {
            mapping[name.unicodeScalars[name.startIndex]] = id
        }
        self.init(mapping: mapping, maxPhonemes: maxPhonemes)
    }

    /// Every name of a configuration's vocabulary and its id, also those that can be no phoneme.
    ///
    /// - Parameters:
    ///   - configuration: as `init(configuration:maxPhonemes:document:)` takes it.
    ///   - document: name of the file, for messages.
    /// - Returns: ids by name.
    /// - Throws: `KokoroError.checkpoint` likewise.
    public static func table(configuration: Data, document: String) throws -> ExactTable<Int32> {
        let fields = try ConfigurationFields(configuration, document)
        guard case .object(let vocab) = fields.table["vocab"] else {
            let found = (fields.table["vocab"] ?? .null).shown()
            throw KokoroError.checkpoint(
                "\(document): expected an object under 'vocab', found \(found)")
        }
        let bad = vocab.entries.filter { !isTokenID($0.value) }.map { quoted($0.name) }
        guard vocab.count > 0, bad.isEmpty else {
            throw KokoroError.checkpoint(
                "\(document): 'vocab' must map phonemes to ids >= 0; wrong: "
                    + "[\(bad.prefix(5).joined(separator: ", "))]")
        }
        let tokens = try fields.number("n_token")
        var ids = ExactTable<Int32>()
        for (name, value) in vocab.entries {
            guard case .integer(let digits) = value, let id = Int32(digits), id < tokens else {
                throw KokoroError.checkpoint(
                    "\(document): vocab holds id \(value.shown()), but n_token is \(tokens)")
            }
            ids[name] = id
        }
        return ids
    }

    private static func isTokenID(_ value: JSONValue) -> Bool {
        guard case .integer(let digits) = value else { return false }
        return !digits.hasPrefix("-")
    }
}
