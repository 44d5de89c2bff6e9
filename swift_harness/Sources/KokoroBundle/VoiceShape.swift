import Foundation

/// The shape of the voices that a network takes.
public struct VoiceShape: Sendable, Equatable {
    /// Rows: one for each number of phonemes.
    public let rows: Int
    /// Values of a row: one half is timbre, the other prosody.
    public let columns: Int

    /// Reads the shape out of a bundle's configuration.
    ///
    /// - Parameters:
    ///   - configuration: JSON with `style_dim`, half of a row's values, and under `plbert`
    ///     `max_position_embeddings`, the rows and the boundary tokens.
    ///   - document: name of the file, for messages.
    /// - Throws: `KokoroError.checkpoint` if it is no JSON, or one of them is missing or wrong.
    public init(configuration: Data, document: String = "config.json") throws {
        let fields = try ConfigurationFields(configuration, document)
        let positions = try fields.number(under: "plbert", "max_position_embeddings")
        let half = try fields.number("style_dim")
        let (columns, isTooLarge) = half.multipliedReportingOverflow(by: 2)
        guard !isTooLarge, positions > Vocabulary.boundaryTokens else {
            throw KokoroError.checkpoint(
                "\(document): no voice has rows for \(positions) tokens and 2 x style_dim columns")
        }
        rows = positions - Vocabulary.boundaryTokens
        self.columns = columns
    }
}

/// The table of a configuration.
struct ConfigurationFields {
    let table: ExactTable<JSONValue>
    private let document: String

    /// Reads the JSON.
    ///
    /// - Throws: `KokoroError.checkpoint` if it is no table.
    init(_ configuration: Data, _ document: String) throws {
        self.document = document
        let value: JSONValue
        do {
            value = try JSONValue(parsing: configuration)
        } catch {
            throw KokoroError.checkpoint(
                "\(document): not valid JSON (\(error.localizedDescription))")
        }
        guard case .object(let table) = value else {
            throw KokoroError.checkpoint(
                "\(document): expected a JSON object, found \(value.shown())")
        }
        self.table = table
    }

    /// A whole number above 0.
    ///
    /// - Throws: `KokoroError.checkpoint` if it is missing or anything else.
    func number(_ name: String) throws -> Int { try number(table[name], name) }

    /// The same of a table within.
    func number(under section: String, _ name: String) throws -> Int {
        guard case .object(let inner) = table[section] else {
            let found = (table[section] ?? .null).shown()
            throw KokoroError.checkpoint(
                "\(document): expected an object under '\(section)', found \(found)")
        }
        return try number(inner[name], "\(section).\(name)")
    }

    private func number(_ value: JSONValue?, _ name: String) throws -> Int {
        guard case .integer(let digits) = value, let number = Int(digits), number > 0 else {
            throw KokoroError.checkpoint(
                "\(document): \(name) must be a whole number above 0, found "
                    + (value ?? .null).shown())
        }
        return number
    }
}
