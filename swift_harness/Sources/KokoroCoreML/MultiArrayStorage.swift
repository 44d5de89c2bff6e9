#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroBundle
    import KokoroSynthesis

    /// An array of Core ML, read where its strides say.
    ///
    /// `@unchecked` because the array is never written once it is here.
    struct MultiArrayStorage: TensorStorage, @unchecked Sendable {
        let array: MLMultiArray
        private let layout: StridedLayout

        /// nil if elements are of a type that no bundle has.
        init?(_ array: MLMultiArray) {
            guard let type = Manifest.ElementType(array.dataType),
                let layout = StridedLayout(
                    shape: array.shape.map(\.intValue), strides: array.strides.map(\.intValue),
                    itemBytes: type.byteCount)
            else { return nil }
            self.array = array
            self.layout = layout
        }

        func bytes() throws -> Data {
            guard let data = array.withUnsafeBytes({ layout.packed($0) }) else { throw tooShort }
            return data
        }

        func isFinite(_ type: Manifest.ElementType) throws -> Bool {
            let isFinite = array.withUnsafeBytes { memory in
                layout.allRuns(of: memory) { ElementBits.areFinite($0, type) }
            }
            guard let isFinite else { throw tooShort }
            return isFinite
        }

        private var tooShort: KokoroError {
            .package(
                "Core ML gave an array of shape \(array.shape) and strides \(array.strides) "
                    + "whose memory ends before its last value")
        }
    }

    extension Tensor {
        /// The tensor of an array, which is not copied; nil if its elements are of a type that no
        /// bundle has.
        init?(_ array: MLMultiArray) {
            guard let type = Manifest.ElementType(array.dataType),
                let storage = MultiArrayStorage(array)
            else { return nil }
            self.init(type: type, shape: array.shape.map(\.intValue), storage: storage)
        }

        /// The array that Core ML made, or a new one without gaps.
        ///
        /// - Throws: `KokoroError.package` if it cannot be made; what the storage throws.
        func multiArray() throws -> MLMultiArray {
            if let storage = storage as? MultiArrayStorage { return storage.array }
            let bytes = try storage.bytes()
            let array: MLMultiArray
            do {
                array = try MLMultiArray(
                    shape: shape.map { NSNumber(value: $0) }, dataType: type.coreML)
            } catch {
                throw KokoroError.package(
                    "Core ML made no array of \(shape): \(error.localizedDescription)")
            }
            let isWritten = array.withUnsafeMutableBytes { memory, strides in
                StridedLayout(shape: shape, strides: strides, itemBytes: type.byteCount)?
                    .unpack(bytes, into: memory) ?? false
            }
            guard isWritten else {
                throw KokoroError.package(
                    "\(bytes.count) bytes do not fill an array of \(type.rawValue) \(shape)")
            }
            return array
        }
    }

    extension Manifest.ElementType {
        /// nil for a type that no bundle has.
        init?(_ type: MLMultiArrayDataType) {
            switch type {
            case .float32: self = .float32
            case .float16: self = .float16
            case .int32: self = .int32
            default: return nil
            }
        }

        /// Core ML's name of it.
        var coreML: MLMultiArrayDataType {
            switch self {
            case .float32: return .float32
            case .float16: return .float16
            case .int32: return .int32
            }
        }
    }
#endif
