import Foundation
import KokoroBundle

/// Why a golden file or a case of it cannot be used.
struct GoldenFailure: LocalizedError, CustomStringConvertible {
    let reason: String
    var description: String { reason }
    var errorDescription: String? { reason }
}

/// The input of a golden case; every reader throws if the value is missing or of another type.
public struct GoldenInput: Sendable {
    let values: ExactTable<JSONValue>

    /// Whether there is a value of this name.
    public func has(_ name: String) -> Bool { values[name] != nil }

    /// A text.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func text(_ name: String) throws -> String {
        guard case .string(let text) = try value(name) else { throw wrong(name) }
        return text
    }

    /// A list of texts.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func texts(_ name: String) throws -> [String] {
        guard case .array(let items) = try value(name) else { throw wrong(name) }
        return try items.map { item in
            guard case .string(let text) = item else { throw wrong(name) }
            return text
        }
    }

    /// A number; its unit is that of the function it is for.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func number(_ name: String) throws -> Double {
        guard case .number(let number) = try GoldenValue(value(name)) else { throw wrong(name) }
        return number
    }

    /// A whole number of any of Swift's types.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type or
    ///   does not fit.
    public func integer<Number: FixedWidthInteger>(
        _ name: String, as _: Number.Type = Int.self
    ) throws -> Number {
        try integer(of: value(name), name)
    }

    /// A list of whole numbers.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type or
    ///   does not fit.
    public func integers<Number: FixedWidthInteger>(
        _ name: String, as _: Number.Type = Int.self
    ) throws -> [Number] {
        guard case .array(let items) = try value(name) else { throw wrong(name) }
        return try items.map { try integer(of: $0, name) }
    }

    /// A list of lists of whole numbers.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type or
    ///   does not fit.
    public func integerLists(_ name: String) throws -> [[Int]] {
        guard case .array(let rows) = try value(name) else { throw wrong(name) }
        return try rows.map { row in
            guard case .array(let items) = row else { throw wrong(name) }
            return try items.map { try integer(of: $0, name) }
        }
    }

    /// A table.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func table(_ name: String) throws -> GoldenInput {
        guard case .object(let table) = try value(name) else { throw wrong(name) }
        return GoldenInput(values: table)
    }

    /// A list of tables.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func tables(_ name: String) throws -> [GoldenInput] {
        guard case .array(let items) = try value(name) else { throw wrong(name) }
        return try items.map { item in
            guard case .object(let table) = item else { throw wrong(name) }
            return GoldenInput(values: table)
        }
    }

    /// Samples, full scale being 1, in base64.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func floats(_ name: String) throws -> [Float] {
        guard case .floats(let floats) = try GoldenValue(value(name)) else { throw wrong(name) }
        return floats
    }

    /// A list of arrays of samples, full scale being 1, in base64.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func floatLists(_ name: String) throws -> [[Float]] {
        guard case .array(let items) = try value(name) else { throw wrong(name) }
        return try items.map { item in
            guard case .floats(let floats) = try GoldenValue(item) else { throw wrong(name) }
            return floats
        }
    }

    /// A file's content in base64.
    ///
    /// - Throws: `LocalizedError` if there is none of this name, or it is of another type.
    public func bytes(_ name: String) throws -> Data {
        guard case .bytes(let data) = try GoldenValue(value(name)) else { throw wrong(name) }
        return data
    }

    private func integer<Number: FixedWidthInteger>(
        of value: JSONValue, _ name: String
    ) throws -> Number {
        guard case .integer(let digits) = value, let number = Number(digits) else {
            throw wrong(name)
        }
        return number
    }

    private func value(_ name: String) throws -> JSONValue {
        guard let value = values[name] else {
            throw GoldenFailure(reason: "the input has no '\(name)'")
        }
        return value
    }

    private func wrong(_ name: String) -> GoldenFailure {
        GoldenFailure(reason: "'\(name)' is not of the expected type")
    }
}
