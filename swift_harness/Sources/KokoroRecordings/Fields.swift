import Foundation
import KokoroBundle

/// Why a recording cannot be read.
struct RecordingFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// A table of a JSON document; every reader throws if the value is missing or of another type.
struct Fields {
    private let table: ExactTable<JSONValue>

    init(_ value: JSONValue) throws {
        guard case .object(let table) = value else { throw RecordingFailure("expected an object") }
        self.table = table
    }

    func value(_ name: String) throws -> JSONValue {
        guard let value = table[name] else { throw RecordingFailure("there is no '\(name)'") }
        return value
    }

    /// nil where it is null.
    func optional(_ name: String) throws -> JSONValue? {
        let value = try value(name)
        return value == .null ? nil : value
    }

    /// nil where it is null.
    func optionalText(_ name: String) throws -> String? {
        try optional(name).map { value in
            guard case .string(let text) = value else { throw wrong(name) }
            return text
        }
    }

    func text(_ name: String) throws -> String {
        guard case .string(let text) = try value(name) else { throw wrong(name) }
        return text
    }

    func number(_ name: String) throws -> Double { try Self.number(value(name)) }

    func integers(_ name: String) throws -> [Int] {
        try list(name).map { value in
            guard case .integer(let digits) = value, let number = Int(digits) else {
                throw wrong(name)
            }
            return number
        }
    }

    func list(_ name: String) throws -> [JSONValue] {
        guard case .array(let items) = try value(name) else { throw wrong(name) }
        return items
    }

    func tables(_ name: String) throws -> [Fields] { try list(name).map(Fields.init) }

    func table(_ name: String) throws -> Fields { try Fields(value(name)) }

    var names: [String] { table.names }

    static func number(_ value: JSONValue) throws -> Double {
        switch value {
        case .double(let number): return number
        case .integer(let digits): return Double(digits) ?? .nan
        default: throw RecordingFailure("expected a number")
        }
    }

    private func wrong(_ name: String) -> RecordingFailure {
        RecordingFailure("'\(name)' is not of the expected type")
    }
}
