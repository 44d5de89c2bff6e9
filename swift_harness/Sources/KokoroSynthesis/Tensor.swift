import Foundation
import KokoroBundle

/// Where a tensor's values are kept: in memory, in an array of Core ML, or elsewhere.
///
/// Storage is never changed once a tensor has been made of it, so it may be read by several tasks.
public protocol TensorStorage: Sendable {
    /// The values row by row, little-endian, without gaps.
    ///
    /// - Throws: `KokoroError` if they cannot be had.
    func bytes() throws -> Data

    /// Whether no value is NaN or infinite; integers, `type` says, always are finite.
    ///
    /// - Throws: as `bytes()`.
    func isFinite(_ type: Manifest.ElementType) throws -> Bool
}

extension TensorStorage {
    /// Looks at every value of `bytes()`.
    ///
    /// - Throws: what `bytes()` throws.
    public func isFinite(_ type: Manifest.ElementType) throws -> Bool {
        try ElementBits.areFinite(bytes(), type)
    }
}

/// An array that goes into a stage or comes out of it.
///
/// What passes from one stage to the next is not looked at by an app, so its storage can stay what
/// the stage made.
public struct Tensor: Sendable {
    /// Type of the values.
    public let type: Manifest.ElementType
    /// Length of each axis; none for a single number.
    public let shape: [Int]
    /// The values.
    public let storage: any TensorStorage

    /// A tensor of a storage that holds as many values of this type.
    public init(type: Manifest.ElementType, shape: [Int], storage: any TensorStorage) {
        self.type = type
        self.shape = shape
        self.storage = storage
    }

    /// A float32 tensor.
    ///
    /// - Parameters:
    ///   - values: row by row, as many as the shape has.
    ///   - shape: length of each axis.
    public init(_ values: [Float], shape: [Int]) {
        precondition(values.count == Self.count(of: shape), "the shape has another size")
        self.init(type: .float32, shape: shape, storage: HeldValues(LittleEndian.bytes(values)))
    }

    /// An int32 tensor.
    ///
    /// - Parameters:
    ///   - values: row by row, as many as the shape has.
    ///   - shape: length of each axis.
    public init(_ values: [Int32], shape: [Int]) {
        precondition(values.count == Self.count(of: shape), "the shape has another size")
        self.init(type: .int32, shape: shape, storage: HeldValues(ElementBits.bytes(values)))
    }

    /// A tensor of raw little-endian values.
    ///
    /// - Parameters:
    ///   - bytes: the values row by row.
    ///   - type: of the values.
    ///   - shape: length of each axis.
    /// - Throws: `KokoroError.argument` if there are more or fewer bytes than the shape has.
    public init(bytes: Data, type: Manifest.ElementType, shape: [Int]) throws {
        guard bytes.count == Self.count(of: shape) * type.byteCount else {
            throw KokoroError.argument(
                "\(bytes.count) bytes for \(type.rawValue) \(shape); expected "
                    + "\(Self.count(of: shape) * type.byteCount)")
        }
        self.init(type: type, shape: shape, storage: HeldValues(bytes))
    }

    /// Zeros.
    public static func zeros(_ type: Manifest.ElementType, shape: [Int]) -> Tensor {
        let bytes = Data(count: count(of: shape) * type.byteCount)
        return Tensor(type: type, shape: shape, storage: HeldValues(bytes))
    }

    /// Number of values.
    public var count: Int { Self.count(of: shape) }

    /// The values of a floating-point tensor row by row; half precision is widened.
    ///
    /// - Throws: `KokoroError.argument` if they are integers; what `TensorStorage.bytes` throws.
    public func floats() throws -> [Float] {
        switch type {
        case .float32: return LittleEndian.floats(try wholeBytes())
        case .float16: return ElementBits.halves(try wholeBytes()).map(ElementBits.widened)
        case .int32: throw KokoroError.argument("an int32 tensor has no floating-point values")
        }
    }

    /// The values of an int32 tensor row by row.
    ///
    /// - Throws: `KokoroError.argument` if they are floating point; what `TensorStorage.bytes`
    ///   throws.
    public func int32s() throws -> [Int32] {
        guard type == .int32 else {
            throw KokoroError.argument("a \(type.rawValue) tensor has no int32 values")
        }
        return ElementBits.integers(try wholeBytes())
    }

    /// Whether no value is NaN or infinite.
    ///
    /// - Throws: what `TensorStorage.bytes` throws.
    public func isFinite() throws -> Bool { try type == .int32 || storage.isFinite(type) }

    private func wholeBytes() throws -> Data {
        let bytes = try storage.bytes()
        guard bytes.count == count * type.byteCount else {
            throw KokoroError.package(
                "a tensor of \(type.rawValue) \(shape) has \(bytes.count) bytes, expected "
                    + "\(count * type.byteCount)")
        }
        return bytes
    }

    private static func count(of shape: [Int]) -> Int { shape.reduce(1, *) }
}

/// Values in memory.
struct HeldValues: TensorStorage {
    private let held: Data

    init(_ bytes: Data) { held = bytes }

    func bytes() -> Data { held }
}

extension Manifest.ElementType {
    /// Size of one value in bytes.
    public var byteCount: Int { self == .float16 ? 2 : 4 }
}
