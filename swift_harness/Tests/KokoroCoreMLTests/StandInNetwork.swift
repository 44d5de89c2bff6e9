#if canImport(CoreML)
    import CoreML
    import KokoroCoreML
    import SynthesisSupport
    import XCTest

    @testable import struct KokoroSynthesis.StridedLayout

    /// Puts the tiny network of a bundle behind the stand-in. What it gives has padded rows.
    enum StandInNetwork {
        /// What a model says of itself instead of what the manifest does.
        typealias Changed = @Sendable (Manifest.Tensor) -> (
            type: MLMultiArrayDataType, shape: [Int]
        )

        static func register(_ bundle: BundleFolder, describing change: Changed? = nil) {
            StandIn.reset()
            for package in bundle.manifest.packages {
                let isSingle = package.functions.map(\.name) == ["main"]
                let functions = package.functions.map { function in
                    (isSingle ? nil : function.name, model(function, change))
                }
                StandIn.register(
                    package.file.replacingOccurrences(of: ".mlpackage", with: ""),
                    Dictionary(uniqueKeysWithValues: functions))
            }
        }

        static func model(
            _ function: Manifest.Function, _ change: Changed? = nil
        ) -> StandIn.Function {
            StandIn.Function(
                description: {
                    let features = { (ports: [Manifest.Tensor]) in
                        ports.map { port in
                            let (type, shape) = change?(port) ?? (port.type.standIn, port.shape)
                            return MLFeatureDescription(
                                standInName: port.name,
                                multiArray: MLMultiArrayConstraint(
                                    standInShape: shape, dataType: type))
                        }
                    }
                    return MLModelDescription(
                        standInInputs: features(function.inputs),
                        outputs: features(function.outputs))
                },
                run: { try run(function, $0) })
        }

        private static func run(
            _ function: Manifest.Function, _ given: any MLFeatureProvider
        ) throws -> [String: MLFeatureValue] {
            var inputs: [String: Tensor] = [:]
            for port in function.inputs {
                let array = try XCTUnwrap(given.featureValue(for: port.name)?.multiArrayValue)
                XCTAssertEqual(array.shape.map(\.intValue), port.shape)
                XCTAssertEqual(array.dataType, port.type.standIn)
                inputs[port.name] = try Tensor(
                    bytes: packed(array, port), type: port.type, shape: port.shape)
            }
            return try TinyNetwork.run(function, inputs).mapValues { tensor in
                let array = MLMultiArray.standInPadded(
                    shape: tensor.shape, dataType: tensor.type.standIn)
                let bytes = try tensor.storage.bytes()
                array.withUnsafeMutableBytes { memory, strides in
                    let layout = StridedLayout(
                        shape: tensor.shape, strides: strides, itemBytes: tensor.type.byteCount)
                    XCTAssert(layout?.unpack(bytes, into: memory) ?? false)
                }
                return MLFeatureValue(multiArray: array)
            }
        }

        /// The elements one by one, not as `StridedLayout` finds them.
        private static func packed(_ array: MLMultiArray, _ port: Manifest.Tensor) -> Data {
            let strides = array.strides.map(\.intValue)
            let size = port.type.byteCount
            return array.withUnsafeBytes { memory in
                var data = Data()
                for place in 0..<port.shape.reduce(1, *) {
                    var (rest, offset) = (place, 0)
                    for axis in port.shape.indices.reversed() {
                        offset += rest % port.shape[axis] * strides[axis]
                        rest /= port.shape[axis]
                    }
                    data.append(contentsOf: memory[offset * size..<(offset + 1) * size])
                }
                return data
            }
        }
    }

    extension Manifest.ElementType {
        var standIn: MLMultiArrayDataType {
            switch self {
            case .float32: return .float32
            case .float16: return .float16
            case .int32: return .int32
            }
        }
    }

    /// A folder that is removed when it is released.
    final class TemporaryFolder: Sendable {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "compiled-\(UUID().uuidString)")

        deinit { try? FileManager.default.removeItem(at: url) }

        /// Every file, by path.
        func files() throws -> [String] {
            try FileManager.default.subpathsOfDirectory(atPath: url.path).sorted()
        }
    }
#endif
