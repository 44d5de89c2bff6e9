import Foundation
import KokoroBundle
import KokoroSynthesis

/// An array of a recording: its digest, and where it was recorded whole its values.
public struct RecordedTensor: Sendable {
    /// Its name among the inputs or outputs.
    public let name: String
    /// Type, shape, and storage of type `RecordedStorage`.
    public let tensor: Tensor
    /// SHA-256 of its values.
    public let sha256: String
    /// Whether its values were recorded, and not their digest alone.
    public let isWhole: Bool

    init(_ fields: Fields) throws {
        let name = try fields.text("name")
        let sha256 = try fields.text("sha256")
        let shape = try fields.integers("shape")
        guard let type = Manifest.ElementType(rawValue: try fields.text("dtype")) else {
            throw RecordingFailure("'\(name)' is of an unknown type")
        }
        let held = try fields.optional("data").map { value -> Data in
            guard case .string(let text) = value, let data = Data(base64Encoded: text) else {
                throw RecordingFailure("'\(name)' is not base64")
            }
            let missing = shape.reduce(type.byteCount, *) - data.count
            guard missing >= 0 else { throw RecordingFailure("'\(name)' is too long") }
            return data + Data(count: missing)
        }
        if let held, ContentDigest.of(held) != sha256 {
            throw RecordingFailure("'\(name)' is not what its digest says")
        }
        self.name = name
        self.sha256 = sha256
        isWhole = held != nil
        tensor = Tensor(
            type: type, shape: shape, storage: RecordedStorage(sha256: sha256, held: held))
    }
}

/// Values that are known by their digest, and perhaps themselves.
public struct RecordedStorage: TensorStorage {
    /// SHA-256 of the values.
    public let sha256: String
    let held: Data?

    /// Whether the values are here.
    public var isWhole: Bool { held != nil }

    /// The values.
    ///
    /// - Throws: `KokoroError.package` if they were not recorded whole.
    public func bytes() throws -> Data {
        guard let held else {
            throw KokoroError.package("an array was recorded by its digest alone")
        }
        return held
    }

    /// Whether they are finite: recorded arrays are, since Python refuses others.
    public func isFinite(_ type: Manifest.ElementType) -> Bool { true }
}

extension Tensor {
    /// SHA-256 of the values.
    ///
    /// - Throws: what the storage throws.
    public func sha256() throws -> String {
        if let storage = storage as? RecordedStorage { return storage.sha256 }
        return ContentDigest.of(try storage.bytes())
    }
}
