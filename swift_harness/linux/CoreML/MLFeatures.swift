import Foundation

/// One value of a feature; Apple's may also be an image, a number, a text and more.
public final class MLFeatureValue: NSObject {
    /// The array, nil if it is none.
    public let multiArrayValue: MLMultiArray?

    /// A value that is an array.
    public init(multiArray value: MLMultiArray) { multiArrayValue = value }

    private init(noArray: Void) { multiArrayValue = nil }

    /// A value that is no array.
    public static func standInOther() -> MLFeatureValue { MLFeatureValue(noArray: ()) }
}

/// Values by name.
public protocol MLFeatureProvider {
    /// The names.
    var featureNames: Set<String> { get }
    /// The value of a name, nil if there is none.
    func featureValue(for featureName: String) -> MLFeatureValue?
}

/// Values out of a dictionary.
public final class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    private let values: [String: MLFeatureValue]

    /// Values of type `MLFeatureValue` or `MLMultiArray`; throws for others.
    public init(dictionary: [String: Any]) throws {
        values = try dictionary.mapValues { value in
            if let value = value as? MLFeatureValue { return value }
            if let array = value as? MLMultiArray { return MLFeatureValue(multiArray: array) }
            throw StandInFailure.error("no feature value: \(value)")
        }
    }

    /// The names.
    public var featureNames: Set<String> { Set(values.keys) }

    /// The value of a name.
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

/// What a multi-array of a feature may be.
public final class MLMultiArrayConstraint: NSObject {
    /// Length of each axis; empty where a package does not say.
    public let shape: [NSNumber]
    /// Type of the elements.
    public let dataType: MLMultiArrayDataType

    /// Apple's cannot be made by an app.
    public init(standInShape shape: [Int], dataType: MLMultiArrayDataType) {
        self.shape = shape.map { NSNumber(value: $0) }
        self.dataType = dataType
    }
}

/// One input or output of a model.
public final class MLFeatureDescription: NSObject {
    /// Its name.
    public let name: String
    /// What the array may be, nil if the feature is no array.
    public let multiArrayConstraint: MLMultiArrayConstraint?

    /// Apple's cannot be made by an app.
    public init(standInName name: String, multiArray: MLMultiArrayConstraint?) {
        self.name = name
        multiArrayConstraint = multiArray
    }
}

/// Inputs and outputs of a model.
public final class MLModelDescription: NSObject {
    /// By name.
    public let inputDescriptionsByName: [String: MLFeatureDescription]
    /// By name.
    public let outputDescriptionsByName: [String: MLFeatureDescription]

    /// Apple's cannot be made by an app.
    public init(standInInputs inputs: [MLFeatureDescription], outputs: [MLFeatureDescription]) {
        inputDescriptionsByName = Dictionary(uniqueKeysWithValues: inputs.map { ($0.name, $0) })
        outputDescriptionsByName = Dictionary(uniqueKeysWithValues: outputs.map { ($0.name, $0) })
    }
}

/// Errors as Core ML makes them.
enum StandInFailure {
    static func error(_ message: String) -> NSError {
        NSError(
            domain: "com.apple.CoreML", code: 0, userInfo: [NSLocalizedDescriptionKey: message])
    }
}
